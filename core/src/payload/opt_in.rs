//! Lists of a user's own plain structs.

use std::fmt;

use bytemuck::Pod;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

/// A list of plain structs that is encoded by copying its bytes as a whole, and not field by field.
///
/// It is for `#[repr(C)]` structs without padding, which derive `bytemuck::Pod`. Both sides must have the same struct:
/// that is not looked at, only that whole elements arrived. Machines that are not little-endian refuse it.
///
/// # Examples
/// ```
/// use distfun_core::payload::{Raw, pack_list, transport, unpack_list};
///
/// let points = vec![Raw(vec![[0.0f32, 1.0, 2.0]; 100])];
/// let packed = pack_list(points.clone()).map_err(|(_, error)| error)?;
/// assert_eq!(unpack_list::<Raw<[f32; 3]>>(transport(packed.parcel), 1)?, points);
/// # Ok::<(), distfun_core::payload::PayloadError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Raw<T>(pub Vec<T>);

impl<T> fmt::Debug for Raw<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Raw({} element(s))", self.0.len())
    }
}

const WRONG_ORDER: &str = "raw structs are little-endian, and this machine is not; send them without `Raw`";

impl<T: Pod> Serialize for Raw<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        const { assert!(size_of::<T>() > 0, "bytes don't tell how many elements without size there are") };
        if cfg!(target_endian = "big") {
            return Err(ser::Error::custom(WRONG_ORDER));
        }
        serializer.serialize_bytes(bytemuck::cast_slice(&self.0))
    }
}

impl<'de, T: Pod> Deserialize<'de> for Raw<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<T>(std::marker::PhantomData<T>);

        impl<T: Pod> de::Visitor<'_> for Visitor<T> {
            type Value = Raw<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "the bytes of whole elements of {} byte(s)", size_of::<T>())
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Raw<T>, E> {
                if cfg!(target_endian = "big") {
                    return Err(E::custom(WRONG_ORDER));
                }
                if !bytes.len().is_multiple_of(size_of::<T>()) {
                    return Err(E::invalid_length(bytes.len(), &self));
                }
                Ok(Raw(bytemuck::pod_collect_to_vec(bytes)))
            }
        }

        const { assert!(size_of::<T>() > 0, "bytes don't tell how many elements without size there are") };
        deserializer.deserialize_bytes(Visitor(std::marker::PhantomData))
    }
}
