//! An HTTP proxy: ends the client's connection and makes one of its own.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::Path,
    time::Duration,
};

use ipnet::IpNet;

use super::Instance;
use crate::{Error, Node, Process, Result, Route, traffic::NGINX_GLOBAL};

/// How long a proxy may take until it listens.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// Which program is the proxy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ProxyProgram {
    /// HAProxy in HTTP mode.
    #[default]
    Haproxy,
    /// nginx with `proxy_pass`.
    Nginx,
}

/// How a [`Proxy`] is to be made.
#[derive(Debug, Clone)]
pub struct ProxyConfig {
    /// Name of the instance, at most 11 letters, digits, `-`, `_`. Responses carry it in the
    /// header `X-Proxied-By`.
    pub name: String,
    /// The program.
    pub program: ProxyProgram,
    /// Addresses of `in`, with prefix lengths.
    pub inside: Vec<IpNet>,
    /// Addresses of `out`, with prefix lengths.
    pub outside: Vec<IpNet>,
    /// Static routes over `in` and `out`.
    pub routes: Vec<Route>,
    /// Where clients connect to.
    pub listen: SocketAddr,
    /// The address it connects onwards from.
    pub source: IpAddr,
    /// The web server.
    pub server: SocketAddr,
    /// MTU of both ports in bytes.
    pub mtu: u16,
}

/// A running proxy.
#[derive(Debug)]
pub struct Proxy {
    process: Process,
    instance: Instance,
}

impl Proxy {
    /// Makes the instance, connects it to `node`, and waits until the proxy listens.
    ///
    /// # Errors
    /// If the name is taken, an address or route is not valid, or the program does not start.
    pub fn new(node: &Node, config: ProxyConfig) -> Result<Self> {
        let instance = Instance::new(node, &config.name, &["in", "out"], config.mtu, true)?;
        instance.configure(&config.inside, &config.outside, &config.routes)?;
        let namespace = instance.namespace();
        let path = namespace.directory().join("proxy.conf");
        let (text, mut command) = match config.program {
            ProxyProgram::Haproxy => (haproxy_config(&config), namespace.command("haproxy")),
            ProxyProgram::Nginx => (nginx_config(&config, namespace.directory()), namespace.command("nginx")),
        };
        fs::write(&path, text).map_err(Error::io("write", path.display().to_string()))?;
        match config.program {
            ProxyProgram::Haproxy => command.arg("-db").arg("-f").arg(&path),
            ProxyProgram::Nginx => command.args(["-e", "stderr", "-c"]).arg(&path),
        };
        let mut process = namespace.spawn(command)?;
        process.wait_listening(config.listen.port(), START_TIMEOUT)?;
        Ok(Self { process, instance })
    }

    /// Namespace, ports and recorder.
    #[must_use]
    pub fn instance(&self) -> &Instance {
        &self.instance
    }

    /// The proxy program.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

fn haproxy_config(config: &ProxyConfig) -> String {
    let ProxyConfig { name, listen, source, server, .. } = config;
    format!(
        "global
  maxconn 4000
  nbthread 1
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend clients
  bind {listen}
  default_backend origin
  http-response set-header X-Proxied-By {name}
backend origin
  source {source}
  server origin {server}
"
    )
}

fn nginx_config(config: &ProxyConfig, directory: &Path) -> String {
    let ProxyConfig { name, listen, source, server, .. } = config;
    let directory = directory.display();
    format!(
        "{NGINX_GLOBAL}
pid {directory}/nginx.pid;
http {{
  access_log off;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  server {{
    listen {listen};
    location / {{
      proxy_pass http://{server};
      proxy_bind {source};
      proxy_http_version 1.1;
      add_header X-Proxied-By {name} always;
    }}
  }}
}}
"
    )
}
