//! An issuer of tokens: keys that sign, and a server that publishes them, which counts its requests.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

/// What tokens say of their issuer and their audience.
pub(crate) const ISSUER: &str = "https://idp.example/";

/// Seconds since 1970, this long from now.
pub(crate) fn seconds_from_now(seconds: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(now.as_secs()).unwrap() + seconds
}

/// Claims of a good token, with these besides.
pub(crate) fn claims(others: &Value) -> Value {
    let mut claims = json!({ "iss": ISSUER, "aud": "larder", "exp": seconds_from_now(600) });
    for (name, value) in others.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

pub(crate) fn encoded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A token signed with a secret.
pub(crate) fn with_secret(secret: &str, header: &str, claims: &str) -> String {
    let signed = format!("{}.{}", encoded(header), encoded(claims));
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let signature = hmac::sign(&key, signed.as_bytes());
    format!("{signed}.{}", encoded(signature))
}

/// A key pair that signs with ES256.
#[derive(Debug)]
pub(crate) struct SigningKey {
    name: String,
    pair: EcdsaKeyPair,
}

impl SigningKey {
    pub(crate) fn generate(name: &str) -> Self {
        let (random, algorithm) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).unwrap();
        Self {
            name: name.to_owned(),
            pair,
        }
    }

    pub(crate) fn jwk(&self) -> Value {
        let point = &self.pair.public_key().as_ref()[1..];
        let (x, y) = (encoded(&point[..32]), encoded(&point[32..]));
        json!({ "kty": "EC", "crv": "P-256", "use": "sig", "kid": self.name, "x": x, "y": y })
    }

    /// A token that names the key.
    pub(crate) fn token(&self, claims: &Value) -> String {
        self.token_with(&json!({}), claims)
    }

    /// A token whose header has these members too.
    pub(crate) fn token_with(&self, others: &Value, claims: &Value) -> String {
        let mut header = json!({ "alg": "ES256", "kid": self.name });
        for (name, value) in others.as_object().unwrap() {
            header[name] = value.clone();
        }
        let signed = format!(
            "{}.{}",
            encoded(header.to_string()),
            encoded(claims.to_string())
        );
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes());
        format!("{signed}.{}", encoded(signature.unwrap()))
    }
}

/// The keys as a JWK set.
pub(crate) fn jwks(keys: &[&SigningKey]) -> String {
    let keys: Vec<Value> = keys.iter().map(|key| key.jwk()).collect();
    json!({ "keys": keys }).to_string()
}

/// Publishes what it is given.
#[derive(Debug)]
pub(crate) struct Publisher {
    address: SocketAddr,
    state: Arc<State>,
    serving: JoinHandle<()>,
}

#[derive(Debug)]
struct State {
    answer: Mutex<Vec<u8>>,
    requests: watch::Sender<usize>,
    /// Each answer takes one.
    permits: Semaphore,
}

impl Publisher {
    pub(crate) async fn of(keys: &[&SigningKey]) -> Self {
        let publisher = Self::silent().await;
        publisher.publish(keys);
        publisher
    }

    /// One that answers with nothing.
    pub(crate) async fn silent() -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    pub(crate) fn on(listener: TcpListener) -> Self {
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            answer: Mutex::default(),
            requests: watch::Sender::default(),
            permits: Semaphore::new(Semaphore::MAX_PERMITS / 2),
        });
        let shared = Arc::clone(&state);
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, Arc::clone(&shared)));
            }
        });
        Self {
            address,
            state,
            serving,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/jwks.json", self.address)
    }

    pub(crate) fn publish(&self, keys: &[&SigningKey]) {
        self.answer_with("200 OK", "", &jwks(keys));
    }

    pub(crate) fn answer_with(&self, status: &str, fields: &str, body: &str) {
        let length = body.len();
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{fields}\r\n{body}");
        *self.state.answer.lock().unwrap() = answer.into_bytes();
    }

    /// Lets no answer leave until the other end of what it returns is dropped.
    pub(crate) fn hold(&self) -> Held<'_> {
        let all = self.state.permits.available_permits();
        self.state.permits.forget_permits(all);
        Held(&self.state.permits, all)
    }

    /// How many requests there have been.
    pub(crate) fn requests(&self) -> usize {
        *self.state.requests.borrow()
    }

    /// Waits until there have been this many requests.
    pub(crate) async fn wait_for(&self, count: usize) {
        let mut requests = self.state.requests.subscribe();
        requests
            .wait_for(|requests| *requests >= count)
            .await
            .unwrap();
    }
}

/// Answers that are held back.
#[derive(Debug)]
pub(crate) struct Held<'p>(&'p Semaphore, usize);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.add_permits(self.1);
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn answer(mut stream: TcpStream, state: Arc<State>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    state.requests.send_modify(|requests| *requests += 1);
    let _permit = state.permits.acquire().await.unwrap();
    let answer = state.answer.lock().unwrap().clone();
    let _ = stream.write_all(&answer).await;
    let _ = stream.shutdown().await;
    let _ = stream.read_to_end(&mut Vec::new()).await;
}
