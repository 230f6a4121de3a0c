#include "core/device/algebra.h"

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <limits>

#include "core/base/error.h"

namespace qs {

namespace {

/// BLAS and LAPACK count rows, columns and strides in 32 bits.
constexpr std::size_t longest = std::numeric_limits<std::int32_t>::max();

bool has_matrices(DType type) {
    return type == DType::f32 || type == DType::f64 || type == DType::f16 || type == DType::bf16;
}

std::size_t element_bytes(DType type) {
    return block_layout(type).bytes;
}

std::string shape_text(std::size_t rows, std::size_t columns) {
    return std::to_string(rows) + " × " + std::to_string(columns);
}

std::string shape_text(const DeviceMatrix& matrix) {
    return shape_text(matrix.rows(), matrix.columns());
}

/// The shape of op(matrix).
struct Shape {
    std::size_t rows, columns;
};

Shape shape_of(const DeviceMatrix& matrix, Op op = Op::none) {
    return op == Op::none ? Shape{matrix.rows(), matrix.columns()} : Shape{matrix.columns(), matrix.rows()};
}

/// Whether two matrices that `delta` elements lie between have an element in common, the first one lying first.
bool overlaps(const DeviceMatrix& first, const DeviceMatrix& second, std::size_t delta) {
    const std::size_t stride = first.stride();
    const std::size_t row = delta / stride, column = delta % stride;
    const bool in_row = row < first.rows() && column < first.columns();
    const bool in_next_row = row + 1 < first.rows() && column + second.columns() > stride;
    return in_row || in_next_row;
}

bool overlaps(const DeviceMatrix& a, const DeviceMatrix& b) {
    if (a.place() != b.place() || a.empty() || b.empty())
        return false;
    if (a.data() > b.data())
        return overlaps(b, a);
    if (b.data() >= a.data() + matrix_bytes(a.type(), a.rows(), a.columns(), a.stride()))
        return false;
    const auto delta = static_cast<std::size_t>(b.data() - a.data());
    // Rows of different strides may cross: taken for an overlap.
    const bool comparable = a.type() == b.type() && a.stride() == b.stride() && delta % element_bytes(a.type()) == 0;
    return !comparable || overlaps(a, b, delta / element_bytes(a.type()));
}

void check_result(const char* what, const DeviceMatrix& result, std::initializer_list<DeviceMatrix> factors) {
    if (!result.writable())
        throw Error(what, "the result would be written to a matrix that is for reading only");
    for (const DeviceMatrix& factor : factors)
        if (overlaps(result, factor))
            throw Error(what, "the result overlaps with a factor");
}

/// For what is computed only in float32 and float64.
void check_computed(const char* what, std::initializer_list<DeviceMatrix> matrices) {
    const DType type = matrices.begin()->type();
    for (const DeviceMatrix& matrix : matrices)
        if (matrix.type() != type || (type != DType::f32 && type != DType::f64))
            throw Error(what, "takes matrices that are all of float32 or all of float64");
}

void check_square(const char* what, const DeviceMatrix& matrix) {
    if (matrix.rows() != matrix.columns())
        throw Error(what, "a " + shape_text(matrix) + " matrix is not square");
}

/// Memory of the caller.
std::shared_ptr<MatrixMemory> memory_at(const void* data, bool writable) {
    auto memory = std::make_shared<MatrixMemory>();
    memory->data = static_cast<std::byte*>(const_cast<void*>(data));
    memory->writable = writable;
    return memory;
}

DeviceMatrix over_host(const void* data, bool writable, DType type, std::size_t rows, std::size_t columns,
                       std::size_t stride) {
    return {memory_at(data, writable), type, rows, columns, stride == 0 ? columns : stride};
}

} // namespace

std::size_t matrix_bytes(DType type, std::size_t rows, std::size_t columns, std::size_t stride) {
    if (!has_matrices(type))
        throw Error("matrix", "can only be of float32, float64, float16 or bfloat16");
    if (rows > longest || columns > longest || stride > longest)
        throw Error("matrix", shape_text(rows, columns) + " is too large: rows, columns and strides end at " +
                                  std::to_string(longest));
    if (stride < columns)
        throw Error("matrix", "rows of " + std::to_string(columns) + " elements do not fit in a stride of " +
                                  std::to_string(stride));
    if (rows == 0 || columns == 0)
        return 0;
    const std::size_t elements = (rows - 1) * stride + columns;
    constexpr std::size_t most = std::numeric_limits<std::ptrdiff_t>::max();
    if (elements > most / element_bytes(type))
        throw Error("matrix", shape_text(rows, columns) + " is too large for any memory");
    return elements * element_bytes(type);
}

DeviceMatrix::DeviceMatrix(std::shared_ptr<MatrixMemory> memory, DType type, std::size_t rows, std::size_t columns,
                           std::size_t stride)
    : memory_(std::move(memory)), type_(type), rows_(rows), columns_(columns), stride_(stride), data_(memory_->data) {
    matrix_bytes(type, rows, columns, stride);
}

DeviceMatrix DeviceMatrix::part(std::size_t row, std::size_t column, std::size_t rows, std::size_t columns) const {
    if (row > rows_ || rows > rows_ - row || column > columns_ || columns > columns_ - column)
        throw Error("matrix", "a part of " + shape_text(rows, columns) + " at row " + std::to_string(row) +
                                  ", column " + std::to_string(column) + " does not lie in a " + shape_text(*this) +
                                  " matrix");
    DeviceMatrix part = *this;
    part.rows_ = rows;
    part.columns_ = columns;
    // An empty part may begin where no element is.
    if (!part.empty())
        part.data_ += (row * stride_ + column) * element_bytes(type_);
    return part;
}

DeviceMatrix DeviceMatrix::reshaped(std::size_t rows, std::size_t columns) const {
    matrix_bytes(type_, rows, columns, columns); // whether there are such matrices
    const bool without_gaps = stride_ == columns_ || rows_ <= 1;
    if (!without_gaps || rows * columns > rows_ * columns_)
        throw Error("matrix",
                    "a " + shape_text(*this) + " matrix cannot be taken for one of " + shape_text(rows, columns));
    DeviceMatrix reshaped = *this;
    reshaped.rows_ = rows;
    reshaped.columns_ = reshaped.stride_ = columns;
    return reshaped;
}

DeviceMatrix DeviceMatrix::diagonal() const {
    DeviceMatrix diagonal = *this;
    diagonal.rows_ = std::min(rows_, columns_);
    diagonal.columns_ = std::min<std::size_t>(columns_, 1);
    diagonal.stride_ = stride_ + 1;
    return diagonal;
}

DeviceMatrix host_matrix(float* data, std::size_t rows, std::size_t columns, std::size_t stride) {
    return over_host(data, true, DType::f32, rows, columns, stride);
}

DeviceMatrix host_matrix(double* data, std::size_t rows, std::size_t columns, std::size_t stride) {
    return over_host(data, true, DType::f64, rows, columns, stride);
}

DeviceMatrix host_matrix(const float* data, std::size_t rows, std::size_t columns, std::size_t stride) {
    return over_host(data, false, DType::f32, rows, columns, stride);
}

DeviceMatrix host_matrix(const double* data, std::size_t rows, std::size_t columns, std::size_t stride) {
    return over_host(data, false, DType::f64, rows, columns, stride);
}

DeviceMatrix host_matrix(const void* data, DType type, std::size_t rows, std::size_t columns, std::size_t stride) {
    return over_host(data, false, type, rows, columns, stride);
}

void throw_not_positive_definite(std::size_t order) {
    throw Error("Cholesky factorization",
                "the matrix is not positive definite: its leading minor of order " + std::to_string(order) +
                    " is not positive",
                "add more to its diagonal");
}

namespace {

void check_reached(const char* what, bool reached) {
    if (!reached)
        throw Error(what, "a matrix lies on another device");
}

} // namespace

DeviceMatrix Algebra::make(DType type, std::size_t rows, std::size_t columns) {
    matrix_bytes(type, rows, columns, columns);
    return do_make(type, rows, columns);
}

DeviceMatrix Algebra::upload(const DeviceMatrix& matrix) {
    DeviceMatrix copied = make(matrix.type(), matrix.rows(), matrix.columns());
    copy(matrix, copied);
    return copied;
}

void Algebra::copy(const DeviceMatrix& from, const DeviceMatrix& to) {
    constexpr const char* what = "matrix copy";
    check_reached(what, reaches(from.place()) && reaches(to.place()));
    check_result(what, to, {from});
    if (from.type() != to.type())
        throw Error(what, "the matrices are of different types");
    if (from.rows() != to.rows() || from.columns() != to.columns())
        throw Error(what, "a " + shape_text(from) + " matrix does not fill a " + shape_text(to) + " one");
    if (!to.empty())
        do_copy(from, to);
}

void Algebra::product(double alpha, const DeviceMatrix& a, Op op_a, const DeviceMatrix& b, Op op_b, double beta,
                      const DeviceMatrix& c, Precision precision) {
    constexpr const char* what = "matrix product";
    check_reached(what, reaches(a.place()) && reaches(b.place()) && reaches(c.place()));
    check_result(what, c, {a, b});
    if (a.type() != b.type())
        throw Error(what, "the factors are of different types");
    if (c.type() != (a.type() == DType::f64 ? DType::f64 : DType::f32))
        throw Error(what, "the result is float64 where the factors are, else float32");
    const Shape left = shape_of(a, op_a), right = shape_of(b, op_b);
    if (left.columns != right.rows || c.rows() != left.rows || c.columns() != right.columns)
        throw Error(what, shape_text(left.rows, left.columns) + " times " + shape_text(right.rows, right.columns) +
                              " does not give " + shape_text(c));
    if (!c.empty())
        do_product(alpha, a, op_a, b, op_b, beta, c, precision);
}

void Algebra::rank_update(double alpha, const DeviceMatrix& x, double beta, const DeviceMatrix& h, Triangle triangle) {
    constexpr const char* what = "rank-k update";
    check_reached(what, reaches(x.place()) && reaches(h.place()));
    check_result(what, h, {x});
    check_computed(what, {x, h});
    check_square(what, h);
    if (x.columns() != h.rows())
        throw Error(what, "the columns of " + shape_text(x) + " do not give " + shape_text(h));
    if (!h.empty())
        do_rank_update(alpha, x, beta, h, triangle);
}

void Algebra::cholesky(const DeviceMatrix& a, Triangle triangle) {
    constexpr const char* what = "Cholesky factorization";
    check_reached(what, reaches(a.place()));
    check_result(what, a, {});
    check_computed(what, {a});
    check_square(what, a);
    if (!a.empty())
        do_cholesky(a, triangle);
}

void Algebra::solve(Side side, const DeviceMatrix& t, Triangle triangle, Op op, const DeviceMatrix& b) {
    constexpr const char* what = "triangular solve";
    check_reached(what, reaches(t.place()) && reaches(b.place()));
    check_result(what, b, {t});
    check_computed(what, {t, b});
    check_square(what, t);
    if (t.rows() != (side == Side::left ? b.rows() : b.columns()))
        throw Error(what, "a triangle of " + shape_text(t) + " does not fit " + shape_text(b));
    if (!b.empty())
        do_solve(side, t, triangle, op, b);
}

void Algebra::invert_from_cholesky(const DeviceMatrix& factor, Triangle triangle) {
    constexpr const char* what = "inverse";
    check_reached(what, reaches(factor.place()));
    check_result(what, factor, {});
    check_computed(what, {factor});
    check_square(what, factor);
    if (!factor.empty())
        do_invert_from_cholesky(factor, triangle);
}

void Algebra::cholesky_of_inverse(const DeviceMatrix& a, Triangle triangle) {
    cholesky(a, triangle);
    invert_from_cholesky(a, triangle);
    cholesky(a, triangle);
}

} // namespace qs
