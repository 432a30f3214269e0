//! `switchyard dev`: control plane and front end in one process.

use crate::args::{DevArgs, LogFormat};
use crate::dataplane;
use crate::fail::{Failure, USAGE};
use api::metrics::Metrics;
use state_sync::{ControlOptions, ControlPlane, Store, StoreError};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Name of the state file in its directory.
const STATE_FILE: &str = "state.redb";

/// Runs until SIGINT or SIGTERM. The data path goes on after that.
pub(crate) async fn run(args: DevArgs) -> Result<(), Failure> {
    start_log(&args)?;
    let path = args.state_dir.join(STATE_FILE);
    // Before the store: budgets must fit the table that there is, which is not always the one that the flags ask for.
    let dataplane = dataplane::open(&args).map_err(|error| Failure::new(error.to_string()))?;
    let status = dataplane.observer().status().map_err(|error| Failure::new(error.to_string()))?;
    if let Some(warning) = kept_capacity(status.flow_capacity, args.flow_capacity.into()) {
        tracing::warn!("{warning}");
    }
    let (store, state) = Store::open(&path, status.flow_capacity, None).map_err(|error| {
        let advice = match error {
            StoreError::Refused { .. } => table_advice(status.flow_capacity, &args.bpffs),
            _ => String::new(),
        };
        Failure::new(format!("{error}{advice}"))
    })?;
    let listener = api::Listener::bind(&args.listen).await.map_err(|error| Failure::new(error.to_string()))?;
    let metrics_listener = match args.metrics_listen {
        None => None,
        Some(address) => Some(
            TcpListener::bind(address)
                .await
                .map_err(|error| Failure::new(format!("listen on {address} for metrics: {error}")))?,
        ),
    };
    let (control, writer) = ControlPlane::start(store, state, dataplane, ControlOptions::default())
        .map_err(|error| Failure::new(format!("start the control plane: {error}")))?;
    let metrics = Metrics::new(control.clone()).map_err(|error| Failure::new(format!("set up metrics: {error}")))?;
    let metrics = Arc::new(metrics);
    let metrics_task =
        metrics_listener.map(|listener| tokio::spawn(api::metrics::serve(listener, Arc::clone(&metrics))));
    let signals = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    let (Ok(mut interrupt), Ok(mut terminate)) = signals else {
        return Err(Failure::new("signals cannot be received"));
    };
    tracing::info!(listen = %args.listen, state = %path.display(), "serving");
    let mut programmed = control.programmed();
    let shutdown = async move {
        let ended = async { while programmed.changed().await.is_ok() {} };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            // Nobody carries out writes any more: whoever supervises this process is to start it anew.
            () = ended => tracing::error!("the control plane has ended by itself"),
        }
        tracing::info!("shutting down; the data path goes on");
    };
    let served = api::serve(listener, control, metrics, shutdown).await;
    if let Some(task) = metrics_task {
        task.abort();
        drop(task.await);
    }
    let joined = tokio::task::spawn_blocking(move || writer.join()).await;
    served.map_err(|error| Failure::new(error.to_string()))?;
    match joined {
        Ok(Ok(())) => Ok(()),
        _ => Err(Failure::new("the control plane panicked; what it had acknowledged is stored")),
    }
}

/// What to do if the stored budgets may not fit the connection table.
fn table_advice(capacity: u64, bpffs: &std::path::Path) -> String {
    format!(
        "; the connection table holds {capacity} records and keeps its size while it is pinned: where budgets need more, remove {} and \
         start with a larger --flow-capacity",
        bpffs.display()
    )
}

/// What to tell the operator when the connection table holds another number of records than asked for.
fn kept_capacity(actual: u64, asked: u64) -> Option<String> {
    (actual != asked).then(|| {
        format!(
            "the connection table keeps its {actual} records, --flow-capacity {asked} has no effect: a table keeps its size \
             until the data path is taken down"
        )
    })
}

fn start_log(args: &DevArgs) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(&args.log)
        .map_err(|error| Failure::new(format!("log filter {:?}: {error}", args.log)).code(USAGE))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match args.log_format {
        LogFormat::Text => builder.with_ansi(crate::output::is_coloured(&std::io::stderr())).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    started.map_err(|error| Failure::new(format!("start the log: {error}")))
}

#[cfg(test)]
mod tests {
    use super::kept_capacity;

    #[test]
    fn a_table_of_another_size_than_asked_for_is_told_of_once() {
        assert_eq!(kept_capacity(1024, 1024), None);
        let warning = kept_capacity(1024, 4096).expect("a warning");
        assert!(warning.contains("1024 records") && warning.contains("--flow-capacity 4096"), "{warning}");
        assert!(!warning.contains('\n'), "{warning}");
    }
}
