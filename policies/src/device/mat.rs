//! Matrices in device memory, always contiguous and row-major, and how kernels over them are launched.
use burn::backend::Backend;
use burn::backend::cubecl::dtype_to_storage_type;
use burn::tensor::{DType, Shape, Tensor};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::kernel::matmul::{MatmulStrategy, matmul};
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::ops::{into_data_sync, permute};
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeBackend, CubeElement};
use cubecl::bytes::Bytes;
use cubecl::calculate_cube_count_elemwise;
use cubecl::client::Client;
use cubecl::ir::ElemType;
use cubecl::prelude::*;
use cubek::matmul::definition::{MatmulElems, MatmulGlobalElems, MatmulSetupError};
use cubek::matmul::launch::launch_ref;
use cubek::matmul::multi_level::Strategy;
use cubek::matmul::multi_level::routines::TileSizeSelection;
use cubek::matmul::multi_level::routines::batch::simple_unit::SimpleUnitSelectionArgs;
use cubek::matmul::routine::BlueprintStrategy;
use cubek::std::InputBinding;
use std::sync::LazyLock;

/// A contiguous matrix on a device. Cloning shares the memory.
#[derive(Clone, Debug)]
pub struct Mat(CubeTensor);

/// An operand of [`product`].
pub struct Operand(CubeTensor);

/// Whether the fastest product is looked for.
static TUNING: LazyLock<bool> = LazyLock::new(|| std::env::var("RLVR_DEVICE_TUNING").as_deref() != Ok("0"));

/// Most cubes in one dimension of a grid, on any device.
const MOST_CUBES: usize = 65_535;

impl Mat {
    /// The matrix of a burn tensor; `None` if it is on no cubecl device.
    pub fn of(tensor: &Tensor<2>) -> Option<Self> {
        let cube = tensor.clone().try_into_primitive::<CubeBackend>().ok()?;
        Some(Self(into_contiguous(cube)))
    }

    /// The matrix of a tensor that may be written: the tensor's own memory, or a copy where that is shared.
    pub fn owned(tensor: Tensor<2>) -> Option<Self> {
        let cube = into_contiguous(tensor.try_into_primitive::<CubeBackend>().ok()?);
        Some(if cube.can_mut() { Self(cube) } else { Self(cube).copy() })
    }

    /// The burn tensor of the matrix.
    pub fn tensor(self) -> Tensor<2> {
        Tensor::from_primitive::<CubeBackend>(self.0)
    }

    /// Rows and columns.
    pub fn shape(&self) -> [usize; 2] {
        let shape = self.0.meta.shape();
        [shape[0], shape[1]]
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.shape()[0]
    }

    /// Columns.
    pub fn cols(&self) -> usize {
        self.shape()[1]
    }

    /// Type of the elements.
    pub fn dtype(&self) -> DType {
        self.0.dtype
    }

    /// Type of the elements, for kernels.
    pub fn elem(&self) -> ElemType {
        dtype_to_storage_type(self.0.dtype)
    }

    /// Whether the device computes in a type.
    pub fn can_compute(&self, dtype: DType) -> bool {
        CubeBackend::supports_dtype(&self.0.device, dtype)
    }

    /// Where kernels over this matrix are launched.
    pub fn client(&self) -> &Client {
        &self.0.client
    }

    /// The matrix as an argument of a kernel.
    pub fn arg(&self) -> BufferArg {
        self.0.clone().into_buffer_arg()
    }

    /// Memory without a value on the same device.
    pub fn empty(&self, rows: usize, cols: usize, dtype: DType) -> Self {
        let (client, device) = (self.0.client.clone(), self.0.device.clone());
        Self(empty_device_contiguous_dtype(client, device, Shape::new([rows, cols]), dtype))
    }

    /// Zeros on the same device.
    pub fn zeros(&self, rows: usize, cols: usize) -> Self {
        let out = self.empty(rows, cols, DType::F32);
        let (count, dim) = out.units(rows * cols);
        fill_kernel::launch(out.client(), count, dim, out.arg(), 0.0);
        out
    }

    /// A copy in memory of its own.
    pub fn copy(&self) -> Self {
        self.cast_always(self.dtype())
    }

    /// The matrix in another type; itself if it has that type.
    pub fn cast(&self, dtype: DType) -> Self {
        if self.dtype() == dtype { self.clone() } else { self.cast_always(dtype) }
    }

    fn cast_always(&self, dtype: DType) -> Self {
        let [rows, cols] = self.shape();
        let out = self.empty(rows, cols, dtype);
        let (count, dim) = out.units(rows * cols);
        cast_kernel::launch(out.client(), count, dim, self.arg(), out.arg(), [self.elem(), out.elem()]);
        out
    }

    /// Host values on the same device.
    pub fn upload<E: CubeElement>(&self, values: &[E], rows: usize, cols: usize) -> Self {
        assert_eq!(values.len(), rows * cols, "values of a {rows} × {cols} matrix");
        let handle = self.client().create_from_slice(E::as_bytes(values));
        let (client, device) = (self.0.client.clone(), self.0.device.clone());
        Self(CubeTensor::new_contiguous(client, device, Shape::new([rows, cols]), handle, E::dtype()))
    }

    /// Replaces the values, in the same memory.
    pub fn write<E: CubeElement>(&self, values: &[E]) {
        assert_eq!(values.len(), self.rows() * self.cols(), "values of a {:?} matrix", self.shape());
        self.client().write(&self.0.handle, Bytes::from_bytes_vec(E::as_bytes(values).to_vec()));
    }

    /// The values, row-major; waits for the device.
    ///
    /// # Panics
    /// If the device fails.
    pub fn read(&self) -> Vec<f32> {
        let data = into_data_sync(self.0.clone()).convert::<f32>();
        data.try_to_vec().unwrap_or_else(|e| panic!("matrix cannot be read: {e:?}"))
    }

    /// A grid with a unit for each of `total` elements; the last units have none.
    pub fn units(&self, total: usize) -> (CubeCount, CubeDim) {
        let dim = CubeDim::new_1d(256);
        (calculate_cube_count_elemwise(self.client(), total, dim), dim)
    }

    /// The matrix as an operand.
    pub fn n(&self) -> Operand {
        Operand(self.0.clone())
    }

    /// The transposed matrix as an operand; nothing is moved.
    pub fn t(&self) -> Operand {
        Operand(permute(self.0.clone(), &[1, 0]))
    }
}

/// A grid with at least one cube for each of `count` things, numbered by `CUBE_POS`.
pub fn cubes(count: usize) -> CubeCount {
    let x = count.clamp(1, MOST_CUBES);
    CubeCount::Static(x as u32, count.div_ceil(x).max(1) as u32, 1)
}

/// Matrix product in f32; the operands have one type, sums are kept in f32.
///
/// Operands in f32 are multiplied in f32, by one kernel whatever the machine: what tuning would choose among rounds them
/// to TF32 (10 bits) on NVIDIA's tensor cores. Narrower operands are multiplied by what tuning found fastest, or with
/// `RLVR_DEVICE_TUNING=0` by burn's first choice for the shape, which needs no minutes of compiling at first and is the
/// same in every process.
///
/// # Panics
/// If the shapes do not fit.
pub fn product(a: &Operand, b: &Operand) -> Mat {
    let (rows, cols) = (a.0.meta.shape()[0], b.0.meta.shape()[1]);
    let out = Mat(a.0.clone()).empty(rows, cols, DType::F32);
    let done = if a.0.dtype == DType::F32 {
        full_product(a, b, &out)
    } else {
        let strategy = if *TUNING { MatmulStrategy::Autotune } else { MatmulStrategy::Cube };
        matmul(a.0.clone(), b.0.clone(), Some(out.0.clone()), strategy, DType::F32).map(drop)
    };
    done.unwrap_or_else(|e| panic!("matrix product of {rows} × {cols}: {e:?}"));
    out
}

/// Product in f32 without tensor cores.
#[allow(clippy::result_large_err)]
fn full_product(a: &Operand, b: &Operand, out: &Mat) -> Result<(), MatmulSetupError> {
    let f32_type = dtype_to_storage_type(DType::F32);
    let operand = |x: &Operand| InputBinding::new(x.0.clone().binding(), f32_type);
    let types =
        || MatmulElems::from_globals(&MatmulGlobalElems { lhs: f32_type, rhs: f32_type, out: f32_type });
    let tile_size = TileSizeSelection::MaxTileSize;
    let unit = Strategy::SimpleUnit(BlueprintStrategy::Inferred(SimpleUnitSelectionArgs { tile_size }));
    launch_ref(&unit.into(), out.client(), operand(a), operand(b), out.0.clone().binding(), &mut types())
}

#[cube(launch)]
fn fill_kernel(out: &mut [f32], value: f32) {
    if ABSOLUTE_POS < out.len() {
        out[ABSOLUTE_POS] = value;
    }
}

#[cube(launch)]
fn cast_kernel<A: Float, B: Float>(x: &[A], out: &mut [B], #[define(A, B)] _types: [ElemType; 2]) {
    if ABSOLUTE_POS < out.len() {
        out[ABSOLUTE_POS] = B::cast_from(x[ABSOLUTE_POS]);
    }
}
