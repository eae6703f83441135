//! The TDS server for tests, driven by the plain driver.

use tiberius::{AuthMethod, Client, Config, EncryptionLevel};
use tokio::net::TcpStream;
use tokio_util::compat::{Compat, TokioAsyncWriteCompatExt};

use crate::tds::{Options, Server};

type Connection = Client<Compat<TcpStream>>;

fn config(server: &Server) -> Config {
    let mut config = Config::new();
    config.host("localhost");
    config.port(server.port());
    config.database("hdai");
    config.authentication(AuthMethod::sql_server("tester", "Not-A-Secret-1"));
    config.encryption(EncryptionLevel::Required);
    config.trust_cert_ca(server.ca_file().to_str().unwrap());
    config
}

async fn connect(config: Config) -> tiberius::Result<Connection> {
    let tcp = TcpStream::connect(config.get_addr()).await?;
    tcp.set_nodelay(true)?;
    Client::connect(config, tcp.compat_write()).await
}

#[tokio::test]
async fn a_login_over_tls_and_a_question() {
    let server = Server::start(Options::default());
    let mut client = connect(config(&server)).await.unwrap();
    let row = client.simple_query("SELECT 1 AS one, N'ä' AS letter").await.unwrap().into_row().await.unwrap().unwrap();
    assert_eq!(row.get::<i32, _>("one"), Some(1));
    assert_eq!(row.get::<&str, _>("letter"), Some("ä"));
}
