# Sources of core/memory.
