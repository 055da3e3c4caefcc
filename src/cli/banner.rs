//! What a person reads when the broker has started.

use crate::broker::Started;
use crate::config::Settings;
use crate::store::open::StoreUrl;

/// Where it listens, where the data is, and three commands to try.
pub fn banner(settings: &Settings, started: Started) -> String {
    let bootstrap = match settings.advertised() {
        Ok((host, port)) if settings.advertise.is_some() => join(&host, port),
        _ => started.kafka.to_string(),
    };
    let data = match settings.store_url() {
        Ok(StoreUrl::Local(path)) => std::path::absolute(&path)
            .unwrap_or(path)
            .components()
            .collect::<std::path::PathBuf>()
            .display()
            .to_string(),
        Ok(StoreUrl::Memory) => "memory: nothing is kept when this process ends".to_owned(),
        _ => settings.store.clone(),
    };
    format!(
        "\nAlluvium {version} is running as broker {node}.\n\n  \
           Kafka clients  {bootstrap}\n  \
           health         http://{admin}/healthz   metrics http://{admin}/metrics\n  \
           data           {data}\n\n\
         Try:\n  \
           kafka-topics.sh --bootstrap-server {bootstrap} --create --topic hello --partitions 3\n  \
           kafka-console-producer.sh --bootstrap-server {bootstrap} --topic hello\n  \
           kafka-console-consumer.sh --bootstrap-server {bootstrap} --topic hello --from-beginning\n\n\
         Ctrl-C stops it and loses nothing.\n\n",
        version = env!("CARGO_PKG_VERSION"),
        node = started.node_id,
        admin = started.admin,
    )
}

fn join(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_to_connect_to() {
        let (kafka, admin) = ("127.0.0.1:31234".parse().unwrap(), "127.0.0.1:9644".parse().unwrap());
        let started = Started { kafka, admin, node_id: 1 };
        let text = banner(&Settings::default(), started);
        assert!(text.contains("--bootstrap-server 127.0.0.1:31234 "), "{text}");
        assert!(text.contains("/alluvium-data\n") && !text.contains("/./"), "{text}");
        let settings = Settings { advertise: Some("[::1]:9".into()), store: "memory:".into(), ..Settings::default() };
        let text = banner(&settings, started);
        assert!(text.contains("--bootstrap-server [::1]:9 ") && text.contains("nothing is kept"), "{text}");
    }
}
