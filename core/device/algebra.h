#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "core/checkpoint/checkpoint.h"

namespace qs {

/// Memory that matrices lie in; freed with the last of them.
struct MatrixMemory {
    static constexpr int host = -1;

    virtual ~MatrixMemory() = default;

    std::byte* data = nullptr;
    int place = host; ///< the ordinal of the GPU whose memory it is, or `host`
    bool writable = true;
};

/// A handle to a row-major matrix of float32, float64, float16 or bfloat16 in the memory of the host or of a device.
/// Copies and parts of it share the memory; whether it is const says nothing of the elements.
class DeviceMatrix {
public:
    /// `stride` elements lie from one row to the next. Throws Error where that is less than a row or sizes overflow.
    DeviceMatrix(std::shared_ptr<MatrixMemory> memory, DType type, std::size_t rows, std::size_t columns,
                 std::size_t stride);

    DType type() const { return type_; }
    std::size_t rows() const { return rows_; }
    std::size_t columns() const { return columns_; }
    std::size_t stride() const { return stride_; }
    bool empty() const { return rows_ == 0 || columns_ == 0; }
    /// The ordinal of the GPU in whose memory it lies, or MatrixMemory::host.
    int place() const { return memory_->place; }
    bool writable() const { return memory_->writable; }
    /// The first element; to be followed only where the matrix lies.
    std::byte* data() const { return data_; }
    template <class T>
    T* as() const {
        return reinterpret_cast<T*>(data_);
    }

    /// The rectangle of `rows` × `columns` that begins at (row, column).
    DeviceMatrix part(std::size_t row, std::size_t column, std::size_t rows, std::size_t columns) const;
    /// The first elements of a matrix without gaps as one of another shape, which needs no more of them.
    DeviceMatrix reshaped(std::size_t rows, std::size_t columns) const;
    /// The diagonal, as a column.
    DeviceMatrix diagonal() const;

private:
    std::shared_ptr<MatrixMemory> memory_;
    DType type_;
    std::size_t rows_, columns_, stride_;
    std::byte* data_;
};

/// A matrix over memory of the caller, which must outlive it; with stride 0 the rows follow each other without a gap.
DeviceMatrix host_matrix(float* data, std::size_t rows, std::size_t columns, std::size_t stride = 0);
DeviceMatrix host_matrix(double* data, std::size_t rows, std::size_t columns, std::size_t stride = 0);
/// The same, for reading only.
DeviceMatrix host_matrix(const float* data, std::size_t rows, std::size_t columns, std::size_t stride = 0);
DeviceMatrix host_matrix(const double* data, std::size_t rows, std::size_t columns, std::size_t stride = 0);
DeviceMatrix host_matrix(const void* data, DType type, std::size_t rows, std::size_t columns, std::size_t stride = 0);

/// Bytes from the first element of such a matrix to the end of the last. Throws Error where `stride` is less than a
/// row, sizes overflow, or there are no matrices of the type.
std::size_t matrix_bytes(DType type, std::size_t rows, std::size_t columns, std::size_t stride);

/// op(A): the matrix or its transpose.
enum class Op { none, transposed };
/// The triangle, diagonal included, that an operation reads and writes; what lies beyond is neither read nor written.
enum class Triangle { lower, upper };
/// On which side of the unknown the triangular matrix stands.
enum class Side { left, right };
/// `full` computes float32 in float32 and float64 in float64. `tf32` lets a GPU round float32 factors to 10 bits of
/// mantissa; it is used only where asked for, and a CPU computes in full all the same.
enum class Precision { full, tf32 };

/// Dense linear algebra on one device. Operands may lie on the device or in the memory of the host: those that upload()
/// or make() gave stay on the device from call to call, others are brought there and back for one call. Results are the
/// same from run to run and do not depend on the number of threads; two devices agree to rounding. Calls are
/// thread-safe and may return before their work is done: copy() to the host waits for it. Throws Error where types or
/// shapes do not fit, or a result overlaps with a factor.
class Algebra {
public:
    virtual ~Algebra() = default;

    /// What computes, and if that is not the device itself, or was not always, why.
    virtual std::string description() const = 0;

    /// A matrix of zeros on the device.
    DeviceMatrix make(DType type, std::size_t rows, std::size_t columns);
    /// A copy on the device.
    DeviceMatrix upload(const DeviceMatrix& matrix);
    /// to = from, wherever they lie, of the same type and shape.
    void copy(const DeviceMatrix& from, const DeviceMatrix& to);

    /// C = alpha·op(A)·op(B) + beta·C; with beta = 0, C is not read. A and B are of one type; C is float64 where they
    /// are, else float32, in which 16-bit factors are accumulated too.
    void product(double alpha, const DeviceMatrix& a, Op op_a, const DeviceMatrix& b, Op op_b, double beta,
                 const DeviceMatrix& c, Precision precision = Precision::full);
    /// The triangle of H = alpha·XᵀX + beta·H; with beta = 0, H is not read.
    void rank_update(double alpha, const DeviceMatrix& x, double beta, const DeviceMatrix& h, Triangle triangle);
    /// Replaces the triangle of a symmetric matrix by its Cholesky factor: A = L·Lᵀ (lower) or A = Uᵀ·U (upper). Throws
    /// Error naming the leading minor where A is not positive definite; the triangle is then of no use.
    void cholesky(const DeviceMatrix& a, Triangle triangle = Triangle::lower);
    /// Solves op(T)·X = B (left) or X·op(T) = B (right) for the triangular T; X replaces B. A zero on the diagonal of T
    /// gives infinities or NaN.
    void solve(Side side, const DeviceMatrix& t, Triangle triangle, Op op, const DeviceMatrix& b);
    /// Replaces the Cholesky factor of A by the same triangle of A⁻¹.
    void invert_from_cholesky(const DeviceMatrix& factor, Triangle triangle = Triangle::lower);
    /// Replaces the triangle of a positive definite A by the Cholesky factor of A⁻¹; the upper one is what GPTQ asks
    /// for.
    void cholesky_of_inverse(const DeviceMatrix& a, Triangle triangle);

protected:
    // What the public functions do once their arguments are found to fit; nothing is empty but perhaps the factors of
    // a product or an update along the dimension that is summed over.
    virtual DeviceMatrix do_make(DType type, std::size_t rows, std::size_t columns) = 0;
    virtual void do_copy(const DeviceMatrix& from, const DeviceMatrix& to) = 0;
    virtual void do_product(double alpha, const DeviceMatrix& a, Op op_a, const DeviceMatrix& b, Op op_b, double beta,
                            const DeviceMatrix& c, Precision precision) = 0;
    virtual void do_rank_update(double alpha, const DeviceMatrix& x, double beta, const DeviceMatrix& h,
                                Triangle triangle) = 0;
    virtual void do_cholesky(const DeviceMatrix& a, Triangle triangle) = 0;
    virtual void do_solve(Side side, const DeviceMatrix& t, Triangle triangle, Op op, const DeviceMatrix& b) = 0;
    virtual void do_invert_from_cholesky(const DeviceMatrix& factor, Triangle triangle) = 0;
    /// Whether the operations can take matrices that lie at this place (DeviceMatrix::place()).
    virtual bool reaches(int place) const = 0;
};

/// Throws the Error of cholesky() for the leading minor of this order.
[[noreturn]] void throw_not_positive_definite(std::size_t order);

/// The opposite triangle, which is where a matrix has its triangle when it is read as its transpose.
constexpr Triangle opposite(Triangle triangle) {
    return triangle == Triangle::lower ? Triangle::upper : Triangle::lower;
}

} // namespace qs
