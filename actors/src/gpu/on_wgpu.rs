//! GPUs through wgpu.

use std::{
    cell::RefCell,
    fmt,
    marker::PhantomData,
    ops::Deref,
    sync::{Arc, OnceLock},
};

use bytemuck::{NoUninit, Pod};
use distfun_core::{
    gpu::{Found, GpuApis, GpuKind},
    shared_data::{Element, SharedData},
};
use pollster::block_on;
use wgpu::{
    Adapter, Backends, BindGroupDescriptor, BindGroupEntry, BufferDescriptor, BufferUsages, CommandEncoder,
    ComputePassDescriptor, ComputePipeline, ComputePipelineDescriptor, Device, DeviceDescriptor, DeviceType,
    ErrorFilter, Instance, InstanceDescriptor, MapMode, PollType, Queue, RequestAdapterError, RequestAdapterOptions,
    ShaderModuleDescriptor, ShaderSource,
};

use super::{
    GpuError,
    kept::{Kernels, Uploads, array},
};

/// The instance that all devices of this process are from.
fn instance() -> &'static Instance {
    static INSTANCE: OnceLock<Instance> = OnceLock::new();
    INSTANCE.get_or_init(|| Instance::new(InstanceDescriptor::new_without_display_handle().with_env()))
}

/// What drivers show, looked up once: some write to stderr each time that they are asked.
fn adapters() -> &'static [Adapter] {
    static ADAPTERS: OnceLock<Vec<Adapter>> = OnceLock::new();
    ADAPTERS.get_or_init(|| block_on(instance().enumerate_adapters(Backends::PRIMARY)))
}

/// All that drivers show.
pub(super) fn find() -> Vec<Found> {
    let all = adapters().iter().map(Adapter::get_info).zip(0..);
    let one = |(info, position): (wgpu::AdapterInfo, u32)| Found {
        uuid: None,
        pci: Some(info.device_pci_bus_id.to_ascii_lowercase()).filter(|pci| !pci.is_empty()),
        vendor: info.vendor & 0xffff,
        name: info.name,
        memory_bytes: 0,
        kind: match info.device_type {
            DeviceType::DiscreteGpu => GpuKind::Discrete,
            DeviceType::IntegratedGpu => GpuKind::Integrated,
            DeviceType::VirtualGpu => GpuKind::Virtual,
            DeviceType::Cpu => GpuKind::Software,
            DeviceType::Other => GpuKind::Other,
        },
        apis: GpuApis { cuda: None, wgpu: Some(position) },
    };
    all.map(one).collect()
}

/// The library of Vulkan, where that is what finds GPUs and can't be used. The loader may not start without a driver.
pub(super) fn missing() -> Option<&'static str> {
    let found = block_on(instance().request_adapter(&RequestAdapterOptions::default()));
    let is_missing = match found {
        Err(RequestAdapterError::NotFound { active_backends, .. }) => !active_backends.contains(Backends::VULKAN),
        _ => false,
    };
    Some("libvulkan.so.1 (Vulkan's loader), or a driver for it,").filter(|_| is_missing && cfg!(target_os = "linux"))
}

/// Buffers for kernels: they can be filled, read and bound.
const USAGE: BufferUsages = BufferUsages::STORAGE.union(BufferUsages::COPY_SRC).union(BufferUsages::COPY_DST);

/// A GPU through wgpu, from [`UseGpu::wgpu`](super::UseGpu::wgpu): its device and queue to do anything with, and the few
/// things that most functions do. Types of your own are uploaded if they derive [`bytemuck`](https://docs.rs/bytemuck)'s
/// `NoUninit`, or `Pod` to come back too.
///
/// ```no_run
/// use distfun::{GpuPolicy, gpu::GpuError, prelude::*};
///
/// const TWICE: &str = "
///     @group(0) @binding(0) var<storage, read_write> x: array<f32>;
///     @compute @workgroup_size(64)
///     fn twice(@builtin(global_invocation_id) id: vec3<u32>) {
///         if id.x < arrayLength(&x) { x[id.x] = 2.0 * x[id.x]; }
///     }";
///
/// fn twice(x: &Vec<f32>, context: &Context) -> Result<Vec<f32>, GpuError> {
///     let Device::Gpu(gpu) = context.device() else { return Ok(x.iter().map(|x| 2.0 * x).collect()) };
///     let gpu = gpu.wgpu()?;
///     let buffer = gpu.upload(x)?;
///     gpu.run(&gpu.kernel(TWICE, "twice")?, &[&buffer], [x.len().div_ceil(64) as u32, 1, 1])?;
///     gpu.download(&buffer)
/// }
///
/// let twice = distribute!(twice).gpu_policy(GpuPolicy::PreferGpu).build()?;
/// assert_eq!(twice.try_map([vec![1.0, 2.0], vec![3.0]]).wait()?, [vec![2.0, 4.0], vec![6.0]]);
/// # Ok::<(), distfun::Error>(())
/// ```
pub struct Wgpu {
    /// The GPU, for errors.
    name: String,
    device: Device,
    queue: Queue,
    kernels: Kernels<Kernel>,
    shared: Uploads<wgpu::Buffer>,
    /// What results are read through: the largest that was needed.
    stage: RefCell<Option<wgpu::Buffer>>,
    lost: Arc<OnceLock<String>>,
}

/// A kernel that is compiled for a device. Clones are cheap.
#[derive(Debug, Clone)]
pub struct Kernel(ComputePipeline);

impl Kernel {
    /// As wgpu has it.
    pub fn pipeline(&self) -> &ComputePipeline {
        &self.0
    }
}

/// Elements on a device: wgpu's buffer, and how many there are. Clones are the same buffer.
pub struct Buffer<T> {
    buffer: wgpu::Buffer,
    count: usize,
    elements: PhantomData<fn(T)>,
}

impl<T> Buffer<T> {
    /// How many elements it has; its size may be some bytes more.
    pub fn count(&self) -> usize {
        self.count
    }

    /// That it has so many elements: what pads it is none.
    fn check_holds(&self, count: usize) -> Result<(), GpuError> {
        match self.count {
            has if count > has => Err(GpuError::Refused { message: format!("{count} elements, the buffer has {has}") }),
            _ => Ok(()),
        }
    }
}

impl<T> Deref for Buffer<T> {
    type Target = wgpu::Buffer;
    fn deref(&self) -> &wgpu::Buffer {
        &self.buffer
    }
}

/// What a kernel can be given: a [`Buffer`], or one of wgpu's.
pub trait Bound {
    /// As wgpu has it.
    fn buffer(&self) -> &wgpu::Buffer;
}

impl<T> Bound for Buffer<T> {
    fn buffer(&self) -> &wgpu::Buffer {
        self
    }
}

impl Bound for wgpu::Buffer {
    fn buffer(&self) -> &wgpu::Buffer {
        self
    }
}

impl<T> Clone for Buffer<T> {
    fn clone(&self) -> Self {
        Self { buffer: self.buffer.clone(), count: self.count, elements: PhantomData }
    }
}

impl<T> PartialEq for Buffer<T> {
    /// Whether it is the same buffer.
    fn eq(&self, other: &Self) -> bool {
        self.buffer == other.buffer
    }
}

impl<T> fmt::Debug for Buffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} x {})", self.count, std::any::type_name::<T>())
    }
}

impl Wgpu {
    /// The adapter at this position of the list.
    pub(super) fn open(position: u32, name: String) -> Result<Self, String> {
        let adapter = adapters().get(position as usize).ok_or("its driver does not show it")?;
        let description = DeviceDescriptor {
            label: Some("distfun"),
            // All that it has, as a function can't ask for more later.
            required_features: adapter.features().difference(wgpu::Features::all_experimental_mask()),
            required_limits: adapter.limits(),
            ..DeviceDescriptor::default()
        };
        let (device, queue) = block_on(adapter.request_device(&description)).map_err(|error| error.to_string())?;
        let lost = Arc::new(OnceLock::new());
        let theirs = lost.clone();
        device.set_device_lost_callback(move |reason, message| {
            let message = if message.is_empty() { message } else { format!(": {message}") };
            let _ = theirs.set(format!("the device is lost ({reason:?}){message}"));
        });
        let (kernels, shared, stage) = Default::default();
        Ok(Self { name, device, queue, kernels, shared, stage, lost })
    }

    /// Why it can't be used any more, if it can't.
    pub(super) fn lost(&self) -> Option<String> {
        // It is told only to those who ask.
        let _ = self.device.poll(PollType::Poll);
        self.lost.get().cloned()
    }

    /// The device, to do anything with. Nothing guards what you do with it yourself: what it refuses outside the methods here
    /// panics, unless you have [pushed a scope](Device::push_error_scope) for it.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Its queue.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// The kernel with this entry point, compiled the first time that this device is asked for it.
    ///
    /// Its bindings are those of group 0 that the entry point uses, storage buffers all of them. What a driver that computes on
    /// CPUs makes of it may differ: Mesa's llvmpipe ends each loop after 65 535 rounds, says nothing, and gives a wrong result.
    ///
    /// # Errors
    /// [`GpuError::Kernel`] with what the compiler says.
    pub fn kernel(&self, wgsl: &str, entry: &str) -> Result<Kernel, GpuError> {
        self.kernels.get(wgsl, entry, || {
            let compiled = self.guarded(0, || {
                let source = ShaderSource::Wgsl(wgsl.into());
                let module = self.device.create_shader_module(ShaderModuleDescriptor { label: Some(entry), source });
                Kernel(self.device.create_compute_pipeline(&ComputePipelineDescriptor {
                    label: Some(entry),
                    layout: None,
                    module: &module,
                    entry_point: Some(entry),
                    compilation_options: Default::default(),
                    cache: None,
                }))
            });
            compiled.map_err(|error| match error {
                GpuError::Refused { message } => GpuError::Kernel { name: entry.into(), message },
                other => other,
            })
        })
    }

    /// A buffer with these elements.
    ///
    /// # Errors
    /// [`GpuError::OutOfMemory`]; [`GpuError::Refused`] where a buffer can't be so large.
    pub fn upload<T: NoUninit>(&self, elements: &[T]) -> Result<Buffer<T>, GpuError> {
        let buffer = self.blank::<T>(elements.len())?;
        self.fill(&buffer, elements)?;
        Ok(buffer)
    }

    /// A buffer for so many elements, all zero.
    ///
    /// # Errors
    /// As [`upload`](Self::upload).
    pub fn blank<T>(&self, count: usize) -> Result<Buffer<T>, GpuError> {
        let bytes = count.saturating_mul(size_of::<T>()) as u64;
        // Copies go by four bytes, and a binding has some. What can't be so large is refused below.
        let size = bytes.min(u64::MAX - 4).next_multiple_of(4).max(4);
        Ok(Buffer { buffer: self.buffer(size, USAGE)?, count, elements: PhantomData })
    }

    /// Writes elements to the beginning of a buffer.
    ///
    /// # Errors
    /// [`GpuError::Refused`]: they do not fit; or there are elements behind them, and theirs are no multiple of four bytes, by
    /// which a device writes.
    pub fn fill<T: NoUninit>(&self, buffer: &Buffer<T>, elements: &[T]) -> Result<(), GpuError> {
        buffer.check_holds(elements.len())?;
        let bytes: &[u8] = bytemuck::cast_slice(elements);
        let (whole, rest) = bytes.split_at(bytes.len() / 4 * 4);
        if !rest.is_empty() && elements.len() < buffer.count() {
            let message = format!("{} bytes at the beginning of more can't be written by fours", bytes.len());
            return Err(GpuError::Refused { message });
        }
        self.guarded(bytes.len() as u64, || {
            self.queue.write_buffer(buffer, 0, whole);
            if !rest.is_empty() {
                let mut last = [0; 4];
                last[..rest.len()].copy_from_slice(rest);
                self.queue.write_buffer(buffer, whole.len() as u64, &last);
            }
        })
    }

    /// Starts a kernel on so many workgroups, with these buffers as bindings 0, 1, … of group 0. Does not wait for it.
    ///
    /// There may be 65 535 workgroups along each of the three axes, on most devices. A kernel sees all of each buffer, if a
    /// binding can be that large (`device().limits().max_storage_buffer_binding_size`), which may be less than a buffer can be.
    ///
    /// # Errors
    /// [`GpuError::Refused`]: the buffers do not fit the kernel, or there are too many workgroups.
    pub fn run(&self, kernel: &Kernel, buffers: &[&dyn Bound], groups: [u32; 3]) -> Result<(), GpuError> {
        let done = self.guarded(0, || {
            let bound = buffers.iter().zip(0..);
            let entries: Vec<_> = bound
                .map(|(buffer, binding)| BindGroupEntry { binding, resource: buffer.buffer().as_entire_binding() })
                .collect();
            let layout = &kernel.0.get_bind_group_layout(0);
            let group = self.device.create_bind_group(&BindGroupDescriptor { label: None, layout, entries: &entries });
            self.submit(|encoder| {
                let mut pass = encoder.begin_compute_pass(&ComputePassDescriptor::default());
                pass.set_pipeline(&kernel.0);
                pass.set_bind_group(0, &group, &[]);
                pass.dispatch_workgroups(groups[0], groups[1], groups[2]);
            });
        });
        done.map_err(|error| match error {
            GpuError::Refused { message } if message.starts_with("Number of bindings") => {
                GpuError::Refused { message: format!("{message}; what the entry point does not use is no binding") }
            }
            other => other,
        })
    }

    /// All elements of a buffer, once what was started before is done.
    ///
    /// # Errors
    /// [`GpuError::OutOfMemory`], [`GpuError::Refused`].
    ///
    /// # Panics
    /// If the device is lost meanwhile; that ends the slot's life, and the item is redone.
    pub fn download<T: Pod>(&self, buffer: &Buffer<T>) -> Result<Vec<T>, GpuError> {
        let mut elements = vec![T::zeroed(); buffer.count()];
        self.read(buffer, &mut elements)?;
        Ok(elements)
    }

    /// The same into elements that are there, from the buffer's beginning.
    ///
    /// # Errors
    /// As [`download`](Self::download); [`GpuError::Refused`] too where the buffer has not as many.
    ///
    /// # Panics
    /// As [`download`](Self::download).
    pub fn read<T: Pod>(&self, buffer: &Buffer<T>, elements: &mut [T]) -> Result<(), GpuError> {
        buffer.check_holds(elements.len())?;
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(elements);
        if bytes.is_empty() {
            return Ok(());
        }
        let size = bytes.len().next_multiple_of(4) as u64;
        let kept = self.stage.take().filter(|stage| stage.size() >= size);
        let stage = match kept {
            Some(stage) => stage,
            None => self.buffer(size, BufferUsages::MAP_READ | BufferUsages::COPY_DST)?,
        };
        let (sender, receiver) = std::sync::mpsc::channel();
        self.guarded(size, || {
            self.submit(|encoder| encoder.copy_buffer_to_buffer(buffer, 0, &stage, 0, size));
            stage.map_async(MapMode::Read, ..size, move |mapped| drop(sender.send(mapped)));
            let _ = self.device.poll(PollType::wait_indefinitely());
        })?;
        let refused = |message: String| GpuError::Refused { message };
        match receiver.try_recv() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(self.unless_lost(refused(error.to_string()))),
            Err(_) => return Err(self.unless_lost(refused("a buffer was not mapped".into()))),
        }
        let view = stage.get_mapped_range(..size).map_err(|error| refused(error.to_string()))?;
        bytes.copy_from_slice(&view[..bytes.len()]);
        drop(view);
        stage.unmap();
        self.stage.replace(Some(stage));
        Ok(())
    }

    /// The array of the shared data under `key`, on the device: uploaded the first time that the device is asked for it, in
    /// the memory order it has.
    ///
    /// # Errors
    /// [`GpuError::SharedData`]: there is no such array; [`GpuError::WrongElement`]; those of [`upload`](Self::upload).
    pub fn shared<T: Element + NoUninit>(&self, shared: &SharedData, key: &str) -> Result<Buffer<T>, GpuError> {
        let array = array::<T>(shared, key)?;
        let elements = array.as_slice_memory_order().expect("shared arrays lie in one piece");
        let buffer = self.shared.get(shared, key, || Ok(self.upload(elements)?.buffer))?;
        Ok(Buffer { buffer, count: elements.len(), elements: PhantomData })
    }

    fn buffer(&self, size: u64, usage: BufferUsages) -> Result<wgpu::Buffer, GpuError> {
        let description = BufferDescriptor { label: None, size, usage, mapped_at_creation: false };
        self.guarded(size, || self.device.create_buffer(&description))
    }

    fn submit(&self, record: impl FnOnce(&mut CommandEncoder)) {
        let mut encoder = self.device.create_command_encoder(&Default::default());
        record(&mut encoder);
        self.queue.submit([encoder.finish()]);
    }

    /// Does something of which the device may complain.
    fn guarded<T>(&self, bytes: u64, body: impl FnOnce() -> T) -> Result<T, GpuError> {
        let filters = [ErrorFilter::Internal, ErrorFilter::Validation, ErrorFilter::OutOfMemory];
        let [internal, validation, memory] = filters.map(|filter| self.device.push_error_scope(filter));
        let done = body();
        let complaints = [block_on(memory.pop()), block_on(validation.pop()), block_on(internal.pop())];
        let error = match complaints.into_iter().flatten().next() {
            None => return Ok(done),
            Some(wgpu::Error::OutOfMemory { source }) => {
                GpuError::OutOfMemory { gpu: self.name.clone(), bytes, message: source.to_string() }
            }
            Some(other) => GpuError::Refused { message: without_places(&other.to_string()) },
        };
        Err(self.unless_lost(error))
    }

    /// A device that is lost complains of all sorts of things.
    fn unless_lost(&self, error: GpuError) -> GpuError {
        let _ = self.device.poll(PollType::Poll);
        if self.lost.get().is_some() { super::give_up(error) } else { error }
    }
}

/// What wgpu says of an error, without where it was inside of wgpu. A text that shows lines of a kernel keeps its lines.
fn without_places(text: &str) -> String {
    let is_place = |line: &&str| {
        let line = line.trim();
        line.is_empty() || ["Validation Error", "Caused by:"].contains(&line) || line.starts_with("In ")
    };
    let lines: Vec<&str> = text.lines().skip_while(is_place).collect();
    if lines.is_empty() {
        return text.trim().into();
    }
    if text.contains('│') {
        return lines.join("\n").trim().into();
    }
    lines.into_iter().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(": ")
}

impl Drop for Wgpu {
    fn drop(&mut self) {
        // What a driver would do only later, when nobody counts memory any more.
        self.device.destroy();
    }
}

impl fmt::Debug for Wgpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wgpu").field("kernels", &self.kernels.count()).finish_non_exhaustive()
    }
}
