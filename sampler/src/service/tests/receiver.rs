//! A receiver of OTLP over HTTP that takes everything and remembers what matters here.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::{KeyValue, any_value},
    metrics::v1::{Metric, NumberDataPoint, metric::Data, number_data_point::Value},
};
use prost::Message as _;

use crate::export::selfmetrics::SCOPE;

/// What has come.
#[derive(Clone, Debug, Default)]
pub(super) struct Received {
    /// The moments of the snapshots, in the order of their requests.
    pub(super) times: Vec<u64>,
    /// Names that series of a guest had as an attribute, and whether the point ended the series.
    pub(super) names: Vec<(String, bool)>,
    /// What the resources of the requests call the hypervisor.
    pub(super) hypervisors: BTreeSet<String>,
    /// What each sink has dropped, by the sampler's own telemetry.
    pub(super) dropped: BTreeMap<String, u64>,
}

pub(super) struct Collector {
    url: String,
    received: Arc<Mutex<Received>>,
}

impl Collector {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let received = Arc::new(Mutex::new(Received::default()));
        let shared = Arc::clone(&received);
        // It ends with the process, as its connections do.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let received = Arc::clone(&shared);
                thread::spawn(move || serve(&stream, &received));
            }
        });
        Self { url, received }
    }

    pub(super) fn url(&self) -> String {
        self.url.clone()
    }

    pub(super) fn received(&self) -> Received {
        self.received.lock().unwrap().clone()
    }
}

/// One connection, request by request, until it is closed.
fn serve(stream: &TcpStream, received: &Mutex<Received>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            match line.trim_end().split_once(": ") {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.parse().unwrap();
                }
                _ if line.trim_end().is_empty() => break,
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        received.lock().unwrap().take(&ExportMetricsServiceRequest::decode(body.as_slice()).unwrap());
        let answer = "HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
        let mut stream = stream;
        stream.write_all(answer.as_bytes()).ok()?;
    }
}

impl Received {
    fn take(&mut self, request: &ExportMetricsServiceRequest) {
        let resources = request.resource_metrics.iter().filter_map(|metrics| metrics.resource.as_ref());
        let attributes = resources.flat_map(|resource| &resource.attributes);
        let hypervisors = attributes.filter(|attribute| attribute.key == "hypervisor.name");
        self.hypervisors.extend(hypervisors.map(text_of));
        for scope in request.resource_metrics.iter().flat_map(|resource| &resource.scope_metrics) {
            let of_sampler = scope.scope.as_ref().is_some_and(|scope| scope.name == SCOPE);
            for metric in &scope.metrics {
                match metric.name.as_str() {
                    "hypervisor.vm.count" if !of_sampler => {
                        self.times.extend(points(metric).iter().map(|point| point.time_unix_nano));
                    }
                    "hypervisor.vm.vcpu.count" if !of_sampler => {
                        self.names.extend(points(metric).iter().filter_map(name_of));
                    }
                    "hypervisor.sampler.sink.dropped" if of_sampler => {
                        self.dropped.extend(points(metric).iter().map(dropped_by));
                    }
                    _ => {}
                }
            }
        }
    }
}

fn points(metric: &Metric) -> &[NumberDataPoint] {
    match &metric.data {
        Some(Data::Sum(sum)) => &sum.data_points,
        other => panic!("{}: {other:?}", metric.name),
    }
}

fn name_of(point: &NumberDataPoint) -> Option<(String, bool)> {
    let name = point.attributes.iter().find(|attribute| attribute.key == "hypervisor.vm.name")?;
    Some((text_of(name), point.flags == 1))
}

fn text_of(attribute: &KeyValue) -> String {
    match attribute.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text.clone(),
        other => panic!("{}: {other:?}", attribute.key),
    }
}

fn dropped_by(point: &NumberDataPoint) -> (String, u64) {
    let sink = point.attributes[0].value.as_ref().and_then(|value| value.value.as_ref());
    match (sink, point.value) {
        (Some(any_value::Value::StringValue(sink)), Some(Value::AsInt(count))) => {
            (sink.clone(), count as u64)
        }
        other => panic!("{other:?}"),
    }
}
