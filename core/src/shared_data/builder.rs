//! From what the user names to a sealed file.

use std::{
    any::type_name,
    collections::BTreeMap,
    fs::File,
    path::{Path, PathBuf},
};

use ndarray::{Array, ArrayBase, ArrayViewMut, Data, Dimension, ShapeBuilder};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    Inner, SharedData,
    element::{Element, ElementType},
    error::{Cause, SharedDataError},
    foreign::{Elements, Foreign, Watch},
    layout::{self, Content, Order},
    map::{Filling, Map, elements_mut},
    storage::{PrivateFile, Storage, Wish},
    stored::{Stored, decode},
};

type Fill<'a> = Box<dyn FnOnce(&mut [u8]) -> Result<(), SharedDataError> + 'a>;

/// Names what is to be shared. Nothing is written before [`build`](Self::build), which then knows how large it all is.
#[must_use = "nothing is shared before `build()`"]
#[derive(Default)]
pub struct SharedDataBuilder<'a> {
    /// In the order they were given, which is the order in which they are filled.
    sections: Vec<Planned<'a>>,
    /// What stays in its own file.
    mapped: Vec<(String, Stored)>,
    watched: Vec<Watch>,
    wish: Wish,
}

/// A section that is to be written.
struct Planned<'a> {
    key: String,
    content: Content,
    len: usize,
    fill: Fill<'a>,
}

impl<'a> SharedDataBuilder<'a> {
    /// Shares an array, or a view, of any dimension. It is copied once, by `build`.
    ///
    /// A column-major array stays column-major, so that its columns lie together; any other layout is stored row-major.
    ///
    /// # Errors
    ///
    /// The key has been given before.
    pub fn array<S, D>(self, key: impl Into<String>, array: &'a ArrayBase<S, D>) -> Result<Self, SharedDataError>
    where
        S: Data,
        S::Elem: Element,
        D: Dimension,
    {
        let shape = array.raw_dim().set_f(array.t().is_standard_layout());
        self.array_with(key, shape, |mut place: ArrayViewMut<'_, S::Elem, D>| place.assign(array))
    }

    /// Shares an array that `fill` writes where it will stay: without a second copy in memory, or the time for one.
    ///
    /// `fill` runs once, in `build`, and is given zeros (`false` for booleans). The shape is what ndarray takes, so
    /// `(rows, columns).f()` makes a column-major array. If `fill` panics, the panic passes through `build` and nothing
    /// is left behind.
    ///
    /// # Errors
    ///
    /// The key has been given before, or an array of this shape is larger than memory can be.
    ///
    /// # Examples
    ///
    /// ```
    /// # use distfun_core::shared_data::SharedData; // `distfun::SharedData` for users
    /// use ndarray::{ArrayView2, ArrayViewMut2};
    ///
    /// let shared = SharedData::builder()
    ///     .array_with("squares", (2, 3), |mut view: ArrayViewMut2<f64>| {
    ///         view.indexed_iter_mut().for_each(|((i, j), x)| *x = (i * j) as f64);
    ///     })?
    ///     .build()?;
    /// let squares: ArrayView2<f64> = shared.array("squares")?;
    /// assert_eq!(squares[[1, 2]], 2.0);
    /// # Ok::<(), distfun_core::shared_data::SharedDataError>(())
    /// ```
    pub fn array_with<T, Sh, F>(self, key: impl Into<String>, shape: Sh, fill: F) -> Result<Self, SharedDataError>
    where
        T: Element,
        Sh: ShapeBuilder<Dim: 'a>,
        F: FnOnce(ArrayViewMut<'_, T, Sh::Dim>) + 'a,
    {
        let key = key.into();
        let shape = shape.into_shape_with_order();
        let axes = shape.raw_dim().slice().to_vec();
        let Some(len) = layout::array_bytes(T::TYPE, axes.iter().map(|len| Some(*len))) else {
            return Err(SharedDataError::Overflow { key, shape: axes });
        };
        // ndarray keeps a shape's order to itself, but makes arrays by it, and one of units takes neither memory nor time.
        let probe = Array::<(), _>::uninit(shape.clone());
        let order = if probe.is_standard_layout() { Order::C } else { Order::F };
        let content = Content::Array { element: T::TYPE, shape: axes.iter().map(|len| *len as u64).collect(), order };
        let fill = move |bytes: &mut [u8]| {
            let elements = elements_mut(bytes).expect("sections are aligned and start as zeros");
            fill(ArrayViewMut::from_shape(shape, elements).expect("the section was made for this shape"));
            Ok(())
        };
        self.add(key, content, len, Box::new(fill))
    }

    /// Shares a value of any type that serde can write and read, for settings, tables and models that are no arrays.
    ///
    /// It is written down here, and read back once per process when it is first asked for. Arrays inside of it are
    /// then each process's own: give large ones to [`array`](Self::array).
    ///
    /// # Errors
    ///
    /// The key has been given before, or the value can't be written or read back by postcard; this is tried at once.
    pub fn value<V>(self, key: impl Into<String>, value: &V) -> Result<Self, SharedDataError>
    where
        V: Serialize + DeserializeOwned,
    {
        let key = key.into();
        let failed = |doing: &str, cause| SharedDataError::Value {
            key: key.clone(),
            type_name: type_name::<V>().to_owned(),
            doing: doing.to_owned(),
            cause,
        };
        let bytes = postcard::to_stdvec(value).map_err(|error| failed("written", Cause(error.to_string())))?;
        decode::<V>(&bytes).map_err(|cause| failed("read back", cause))?;
        let content = Content::Value { type_name: type_name::<V>().to_owned() };
        let len = bytes.len();
        let fill = move |place: &mut [u8]| {
            place.copy_from_slice(&bytes);
            Ok(())
        };
        self.add(key, content, len, Box::new(fill))
    }

    /// Shares the array in a NumPy file (`np.save`) as it lies there, without a copy. Element types are NumPy's `bool`,
    /// integers and floats of 1 to 8 bytes, and complex numbers of 8 and 16; both memory orders are kept. The header is
    /// read now, the elements when they are used (booleans are looked through now). A file whose elements lie at odd
    /// places is copied by `build`.
    ///
    /// **Leave the file alone while it is shared.** To replace it, write another file and rename it over this one: the
    /// shared data keeps the old one. On filesystems that can clone files (btrfs, xfs with reflink) the file may even be
    /// written to, since a clone is mapped that costs neither space nor time. On all others, writing into the file
    /// changes elements while they are read, which no Rust program is prepared for, and cutting it (`np.save` to the
    /// same path does that first) ends the process by a SIGBUS when a part that is gone is read. No program can prevent
    /// that for a file of somebody else's; [`SharedData::check_unchanged`] at the start of every call makes an error of
    /// what happened before it. Where the file is not yours to keep still, load it and share it with
    /// [`array`](Self::array).
    ///
    /// # Errors
    ///
    /// The key has been given before, or the file can't be opened, is cut short, or holds something else than numbers
    /// of this machine's byte order; the error says how to save it.
    pub fn npy(mut self, key: impl Into<String>, path: impl AsRef<Path>) -> Result<Self, SharedDataError> {
        let key = key.into();
        self.check_new(&key)?;
        let Foreign { content, elements, watch } = Foreign::open(&key, path.as_ref())?;
        match elements {
            Elements::Mapped(section) => {
                self.mapped.push((key, Stored::new(content, section, Storage::File)));
                self.watched.push(watch);
                Ok(self)
            }
            Elements::Unaligned(section) => {
                let len = section.bytes().len();
                let fill = move |place: &mut [u8]| {
                    watch.check()?;
                    place.copy_from_slice(section.bytes());
                    Ok(())
                };
                self.add(key, content, len, Box::new(fill))
            }
        }
    }

    /// Keeps everything in memory, or in a file on a disk, whatever its size. See [`Storage`] for what is done
    /// otherwise.
    pub fn storage(mut self, storage: Storage) -> Self {
        self.wish.storage = Some(storage);
        self
    }

    /// The directory of the file, if it becomes one: by default that for temporary files (`TMPDIR`, or `/tmp`).
    ///
    /// Where `/tmp` is memory in disguise (a `tmpfs`) and `TMPDIR` is not set, the default is `/var/tmp`, since the
    /// file is there to spare memory. A directory that is named here, or by `TMPDIR`, is taken as it is.
    pub fn dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.wish.dir = Some(dir.into());
        self
    }

    /// Makes a place for everything, fills it, and seals it: nobody can write to it any more.
    ///
    /// # Errors
    ///
    /// There is not enough memory or disk, or the operating system refuses something. Nothing is left behind.
    pub fn build(self) -> Result<SharedData, SharedDataError> {
        let Self { sections, mapped, watched, wish } = self;
        let mut inner = if sections.is_empty() {
            Inner::new(BTreeMap::new(), wish.storage.unwrap_or(Storage::Memory), None)
        } else {
            let (map, file, storage) = write(sections, &wish)?;
            Inner::new(read(&map, storage)?, storage, Some((map, file)))
        };
        inner.all.extend(mapped);
        inner.watched = watched;
        let shared = SharedData::publish(inner);
        shared.check_unchanged()?;
        Ok(shared)
    }

    fn add(mut self, key: String, content: Content, len: usize, fill: Fill<'a>) -> Result<Self, SharedDataError> {
        self.check_new(&key)?;
        self.sections.push(Planned { key, content, len, fill });
        Ok(self)
    }

    fn check_new(&self, key: &str) -> Result<(), SharedDataError> {
        let mut keys = self.sections.iter().map(|one| &one.key).chain(self.mapped.iter().map(|(key, _)| key));
        if keys.any(|other| other == key) {
            return Err(SharedDataError::Twice { key: key.to_owned() });
        }
        Ok(())
    }
}

/// Makes a place for all sections, fills it and seals it.
fn write(sections: Vec<Planned<'_>>, wish: &Wish) -> Result<(Map, File, Storage), SharedDataError> {
    let plan = layout::plan(sections.iter().map(|one| (one.key.as_str(), one.content.clone(), one.len)));
    let plan = plan.filter(|plan| isize::try_from(plan.total).is_ok());
    let plan = plan.ok_or(SharedDataError::TooLarge { needed: u64::MAX, available: isize::MAX as u64 })?;
    let file = PrivateFile::create(plan.total, wish)?;
    let (storage, path) = (file.storage(), file.path().to_owned());
    let refused = |cause| SharedDataError::io("map a file in", &path, cause);

    let mut filling = Filling::map(file).map_err(refused)?;
    let bytes = filling.bytes();
    bytes[..plan.head.len()].copy_from_slice(&plan.head);
    for (section, place) in sections.into_iter().zip(plan.sections) {
        (section.fill)(&mut bytes[place])?;
    }
    let file = filling.into_file().seal()?;
    let map = Map::sealed(&file).map_err(refused)?;
    Ok((map, file.into_file(), storage))
}

/// Everything in a mapped file of shared data. All of it is checked, since the file may come from another machine.
pub(super) fn read(map: &Map, storage: Storage) -> Result<BTreeMap<String, Stored>, SharedDataError> {
    let damaged = |reason: String| SharedDataError::Damaged { reason };
    let entries = layout::open(map.bytes()).map_err(|error| damaged(error.to_string()))?;
    let mut all = BTreeMap::new();
    for (entry, place) in entries {
        let element = match entry.content {
            Content::Array { element, .. } => element,
            Content::Value { .. } => ElementType::U8,
        };
        let section = map.section(place, element);
        let section = section.ok_or_else(|| damaged(format!("the section of {:?} is not {element}", entry.key)))?;
        all.insert(entry.key, Stored::new(entry.content, section, storage));
    }
    Ok(all)
}
