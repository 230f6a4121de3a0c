# Sources of core/formats.
