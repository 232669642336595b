//! What the events tell, as metrics: for Prometheus and others, through the [`metrics`](https://docs.rs/metrics) facade.
//!
//! [`layer`] reads the supervision events of this process and keeps counters, gauges and histograms of them, all named
//! `distfun_…`, in whatever exporter the program has chosen. `docs/METRICS.md` lists them. Nothing else is measured: without
//! the layer nothing is counted, and with it a call costs the two events that it says at INFO. It never asks for DEBUG.
//!
//! # With an exporter of the program's own
//! The exporter is installed first, then the layer: what is said to no exporter is lost.
//!
//! ```
//! use distfun::prelude::*;
//! use metrics_exporter_prometheus::PrometheusBuilder;
//! use tracing_subscriber::prelude::*;
//!
//! fn double(x: u64) -> u64 {
//!     2 * x
//! }
//!
//! let exporter = PrometheusBuilder::new().install_recorder()?;
//! tracing_subscriber::registry().with(distfun::metrics::layer()).init();
//!
//! distribute!(double).build()?.map(0..100).wait()?;
//! assert!(exporter.render().contains("distfun_items_total{"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![cfg_attr(
    feature = "metrics-server",
    doc = r#"
# Served by distfun
[`serve`] is an exporter for Prometheus, at an address of this machine.

```
use tracing_subscriber::prelude::*;

let server = distfun::metrics::serve("127.0.0.1:0")?; // without a port: 9464
tracing_subscriber::registry().with(distfun::metrics::layer()).init();
println!("http://{}/metrics", server.address());
# Ok::<(), distfun::metrics::ServeError>(())
```
"#
)]
//!
//! # What is counted, and when
//! Counters of calls, items, failures, retries, restarts and nodes are exact as of the last event. What only the snapshots
//! know (`distfun.manager.state`: workers by state, chunks that run, items that wait, nodes) is up to 10 s old while calls run
//! and up to a minute else, and not there before the first. Counters never go down while the process runs, however many
//! Managers come and go; gauges of a Manager that is gone are gone with it. Calls made inside a distributed function are not
//! counted: nothing is said of them at INFO.

mod fields;
#[cfg(feature = "metrics-server")]
mod server;
mod state;
mod table;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use distfun_core::event::{TARGET, spec};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::{Layer, filter::LevelFilter, layer::Context, registry::LookupSpan};

use crate::layers::Wanted;
use fields::Fields;
#[cfg(feature = "metrics-server")]
pub use server::{ServeError, Server, serve};
use state::State;

/// The layer that keeps the metrics, to add to the program's subscriber, once.
///
/// ```
/// use tracing_subscriber::prelude::*;
///
/// tracing_subscriber::registry().with(distfun::metrics::layer()).init();
/// ```
pub fn layer<S>() -> impl Layer<S> + Send + Sync
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    layer_of(state())
}

fn layer_of<S>(state: Arc<Mutex<State>>) -> impl Layer<S> + Send + Sync
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    lock(&state).begin();
    MetricsLayer { state }.with_filter(Wanted { is_wanted: is_counted, level: LevelFilter::INFO })
}

/// The metrics are the process's, and so is what is known of them.
fn state() -> Arc<Mutex<State>> {
    static STATE: OnceLock<Arc<Mutex<State>>> = OnceLock::new();
    STATE.get_or_init(|| Arc::new(Mutex::new(State::new()))).clone()
}

/// A recorder that panicked does not end the others' events.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

struct MetricsLayer {
    state: Arc<Mutex<State>>,
}

impl<S: Subscriber> Layer<S> for MetricsLayer {
    fn on_layer(&mut self, _: &mut S) {
        lock(&self.state).is_heard = true;
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        // Whoever else speaks for us must not add to what is there.
        let Some(known) = spec(metadata.name()) else { return };
        let mut fields = Fields::default();
        event.record(&mut fields);
        lock(&self.state).note(known.name, *metadata.level(), &fields);
    }
}

/// What functions have said is not counted, so that it still goes to stdout and stderr where no log takes it.
fn is_counted(metadata: &Metadata<'_>) -> bool {
    let is_output = || metadata.fields().field("distfun.output.text").is_some();
    metadata.target() == TARGET && *metadata.level() <= Level::INFO && !is_output()
}

#[cfg(test)]
mod tests;
