//! An Event Grid topic on loopback: a real HTTP server that takes batches of CloudEvents, and can be told to be ill.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

/// What the topic does with a post.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    Accepts,
    /// Answers with this status.
    Says(u16),
    /// Answers 503 and asks for a pause of so many seconds.
    Asks(u64),
    /// Takes so many milliseconds, then accepts.
    Slow(u64),
    /// Reads the post and closes.
    Closes,
    /// Reads the post and never answers.
    Hangs,
}

/// One post.
#[derive(Debug, Clone)]
pub(crate) struct Post {
    /// The request line and the headers, in lower case.
    pub(crate) head: String,
    pub(crate) body: String,
    pub(crate) mood: Mood,
    pub(crate) at: Instant,
}

impl Post {
    pub(crate) fn events(&self) -> Vec<Value> {
        serde_json::from_str(&self.body).unwrap()
    }
}

pub(crate) struct Topic {
    port: u16,
    mood: Arc<Mutex<Mood>>,
    posts: Arc<Mutex<Vec<Post>>>,
}

impl Topic {
    pub(crate) fn start(mood: Mood) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let topic = Self { port: listener.local_addr().unwrap().port(), mood: Arc::new(Mutex::new(mood)), posts: Arc::default() };
        let (mood, posts) = (topic.mood.clone(), topic.posts.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (mood, posts) = (mood.clone(), posts.clone());
                std::thread::spawn(move || serve(stream.unwrap(), &mood, &posts));
            }
        });
        topic
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}/api/events", self.port)
    }

    pub(crate) fn be(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    pub(crate) fn posts(&self) -> Vec<Post> {
        self.posts.lock().unwrap().clone()
    }

    /// The events that were accepted, in the order in which they came.
    pub(crate) fn accepted(&self) -> Vec<Value> {
        let posts = self.posts();
        let taken = posts.iter().filter(|post| matches!(post.mood, Mood::Accepts | Mood::Slow(_)));
        taken.flat_map(Post::events).collect()
    }

    /// `TYPE SUBJECT` of each, the type without our prefix.
    pub(crate) fn facts(&self) -> Vec<String> {
        self.accepted().iter().map(fact).collect()
    }

    /// Waits until `look` finds something.
    #[track_caller]
    pub(crate) fn until<T>(&self, look: impl Fn(&Self) -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            assert!(begun.elapsed() < Duration::from_secs(90), "waited too long; posts: {:#?}", self.posts());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    #[track_caller]
    pub(crate) fn await_facts(&self, count: usize) -> Vec<String> {
        self.until(|topic| Some(topic.facts()).filter(|facts| facts.len() >= count))
    }

    #[track_caller]
    pub(crate) fn await_posts(&self, count: usize) {
        self.until(|topic| (topic.posts().len() >= count).then_some(()));
    }
}

fn fact(event: &Value) -> String {
    let kind = event["type"].as_str().unwrap().strip_prefix("org.healthdataai.").unwrap();
    format!("{kind} {}", event["subject"].as_str().unwrap())
}

fn serve(stream: TcpStream, mood: &Mutex<Mood>, posts: &Mutex<Vec<Post>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            match reader.read_line(&mut head) {
                Ok(1..) => {}
                _ => return,
            }
        }
        let head = head.to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |text| text.parse().unwrap());
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let mut respond = |status: u16, more: &str| {
            let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\n{more}\r\n");
            stream.write_all(answer.as_bytes()).is_ok()
        };
        if !head.starts_with("post ") {
            respond(405, "");
            continue;
        }
        let mood = *mood.lock().unwrap();
        let post = Post { head, body: String::from_utf8(body).unwrap(), mood, at: Instant::now() };
        if let Mood::Slow(milliseconds) = mood {
            std::thread::sleep(Duration::from_millis(milliseconds));
        }
        posts.lock().unwrap().push(post);
        let open = match mood {
            Mood::Accepts | Mood::Slow(_) => respond(200, ""),
            Mood::Says(status) => respond(status, ""),
            Mood::Asks(seconds) => respond(503, &format!("retry-after: {seconds}\r\n")),
            Mood::Closes => false,
            Mood::Hangs => {
                let _ = reader.read(&mut [0]);
                false
            }
        };
        if !open {
            return;
        }
    }
}
