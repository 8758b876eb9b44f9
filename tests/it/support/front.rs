//! HTTP caches as people put them in front of Larder: the real nginx and the real Varnish, each a process
//! on a port of its own.

use std::net::{SocketAddr, TcpListener};
use std::process::Stdio;

use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// Which cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cache {
    Nginx,
    Varnish,
}

impl Cache {
    pub(crate) const ALL: [Self; 2] = [Self::Nginx, Self::Varnish];
}

/// A running cache. Dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Front {
    pub(crate) address: SocketAddr,
    _process: Child,
    _folder: TempDir,
}

impl Front {
    /// Starts the cache in front of `origin`, and waits until it takes connections.
    pub(crate) async fn of(cache: Cache, origin: SocketAddr) -> Self {
        Self::start(cache, origin, NGINX).await
    }

    /// An nginx that has `origin` under `/api/`.
    pub(crate) async fn under_api(origin: SocketAddr) -> Self {
        let nginx = NGINX.replace(
            "location / {\nproxy_pass http://ORIGIN;",
            "location /api/ {\nproxy_pass http://ORIGIN/;",
        );
        Self::start(Cache::Nginx, origin, &nginx).await
    }

    /// An nginx that stores private answers as well and honours `Vary`, as the cache of a browser does. It does not
    /// look at `Cache-Control`, and stores each answer for an hour.
    pub(crate) async fn private(origin: SocketAddr) -> Self {
        let nginx = NGINX.replace(
            "location / {\n",
            "location / {\nproxy_ignore_headers Cache-Control;\nproxy_cache_valid 200 1h;\n",
        );
        assert_ne!(nginx, NGINX);
        Self::start(Cache::Nginx, origin, &nginx).await
    }

    async fn start(cache: Cache, origin: SocketAddr, nginx: &str) -> Self {
        let folder = TempDir::new().unwrap();
        // Free until a moment before the cache takes it.
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        drop(taken);
        let path = folder.path().display().to_string();
        let fill = |text: &str| {
            text.replace("FOLDER", &path)
                .replace("LISTEN", &address.to_string())
                .replace("ORIGIN_PORT", &origin.port().to_string())
                .replace("ORIGIN", &origin.to_string())
        };
        let mut command = match cache {
            Cache::Nginx => {
                let config = folder.path().join("nginx.conf");
                std::fs::write(&config, fill(nginx)).unwrap();
                let mut command = Command::new("nginx");
                command.arg("-p").arg(folder.path()).arg("-e").arg("stderr");
                command.arg("-c").arg(config);
                command
            }
            Cache::Varnish => {
                let config = folder.path().join("larder.vcl");
                std::fs::write(&config, fill(VARNISH)).unwrap();
                let mut command = Command::new("varnishd");
                command.args(["-F", "-j", "none", "-s", "malloc,16m"]);
                command.args(["-p", "http_gzip_support=off"]);
                command.args(["-a", &address.to_string()]);
                command.arg("-n").arg(folder.path().join("work"));
                command.arg("-f").arg(config);
                command
            }
        };
        // nginx and varnishd are where only root's PATH has them.
        let paths = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin";
        let mut process = command
            .env("PATH", paths)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{cache:?} is not installed: {error}; see tests/run"));
        while TcpStream::connect(address).await.is_err() {
            let ended = process.try_wait().unwrap();
            assert!(ended.is_none(), "{cache:?} has ended: {ended:?}");
            tokio::task::yield_now().await;
        }
        Self {
            address,
            _process: process,
            _folder: folder,
        }
    }
}

/// What docs/caches.md shows, with what a process of its own needs around it.
const NGINX: &str = concat!(
    "daemon off;\nmaster_process off;\npid FOLDER/pid;\nerror_log stderr crit;\n",
    "events { worker_connections 256; }\n",
    "http {\naccess_log off;\nkeepalive_requests 1000000000;\n",
    "client_body_temp_path FOLDER/body;\nproxy_temp_path FOLDER/proxy;\n",
    "fastcgi_temp_path FOLDER/fastcgi;\nuwsgi_temp_path FOLDER/uwsgi;\nscgi_temp_path FOLDER/scgi;\n",
    "proxy_cache_path FOLDER/cache keys_zone=larder:1m;\n",
    "server {\nlisten LISTEN;\nadd_header X-Cache $upstream_cache_status always;\n",
    "location / {\nproxy_pass http://ORIGIN;\n",
    include_str!("front/nginx.conf"),
    "}\n}\n}\n",
);

const VARNISH: &str = concat!(
    "vcl 4.1;\nimport std;\n",
    "backend default { .host = \"127.0.0.1\"; .port = \"ORIGIN_PORT\"; }\n",
    include_str!("front/larder.vcl"),
    "sub vcl_deliver {\n",
    "  if (obj.hits > 0) { set resp.http.X-Cache = \"HIT\"; } else { set resp.http.X-Cache = \"MISS\"; }\n}\n",
);
