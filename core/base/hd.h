#pragma once

/// Marks a function that compiles for the host and for a CUDA device.
#if defined(__CUDACC__)
#define QS_HD __host__ __device__
#else
#define QS_HD
#endif
