//! Reads `src/` and fails on what the layout forbids: an arrow between rooms that is not in the table, a file or function that grew too
//! long, a call that has no place where it stands. Knows no Rust beyond comments, strings, braces and names; std only.

#![allow(clippy::unwrap_used, reason = "a test that can not go on fails")]

#[path = "architecture/pitfalls.rs"]
mod pitfalls;

use std::path::{Path, PathBuf};

const FILE_MAX_LINES: usize = 500;
const FUNCTION_MAX_LINES: usize = 70;

/// Whom each room may know. Arrows point down only; a room that is missing here may not exist.
const ARROWS: &[(&str, &[&str])] = &[
    // pure
    ("types", &[]),
    ("wire", &["types"]),
    ("segment", &["types"]),
    // ports
    ("store", &["types"]),
    ("cache", &["types", "store"]),
    ("meta", &["types", "segment", "store"]),
    ("config", &["types", "store"]),
    ("links", &["types", "wire", "store", "meta"]),
    // engine
    ("log", &["types", "config", "wire", "segment", "store", "cache", "meta", "links"]),
    ("coord", &["types", "config", "wire", "segment", "meta", "log"]),
    ("maintain", &["types", "segment", "store", "cache", "meta", "log"]),
    // doors
    ("api", &["types", "config", "wire", "segment", "meta", "log", "coord"]),
    ("server", &["types", "config", "wire", "links", "log", "api"]),
    ("admin", &["types", "store", "cache"]),
    (
        "broker",
        &[
            "types", "config", "wire", "segment", "store", "cache", "meta", "links", "log", "coord", "maintain", "api",
            "server", "admin",
        ],
    ),
    ("cli", &["types", "config", "segment", "store", "meta", "broker"]),
    ("main", &["cli"]),
    ("lib", &[]),
];

/// A word that is only allowed in files whose path begins so, and why.
struct Ban {
    words: &'static [&'static str],
    allowed: &'static [&'static str],
    why: &'static str,
}

const BANS: &[Ban] = &[
    Ban { words: &[".unwrap()"], allowed: &[], why: "say with `expect` why it is impossible, or return an error" },
    Ban { words: &["todo!", "unimplemented!", "dbg!"], allowed: &[], why: "finish it" },
    Ban {
        words: &["println!", "print!", "eprintln!", "eprint!"],
        allowed: &["cli/"],
        why: "only the command line prints",
    },
    Ban {
        words: &["SystemTime", "std::time::Instant", "thread_rng", "rand::random", "getrandom"],
        allowed: &["types/env.rs", "store/local"],
        why: "time and randomness come through types::env, so that simulation controls them",
    },
    Ban {
        words: &["spawn_blocking", "block_in_place"],
        // A step aside is the thread's own where there is only one.
        allowed: &["store/local", "broker.rs", "types/aside.rs"],
        why: "simulation has no threads",
    },
    Ban {
        words: &["std::fs", "tokio::fs"],
        // The AWS files are settings of the adapter that reads them.
        allowed: &["store/local", "store/s3/profile", "cli/"],
        why: "the disk is behind the store",
    },
    Ban {
        words: &["process::exit", "process::abort"],
        allowed: &["cli/", "broker.rs"],
        why: "the command line decides when to end",
    },
];

/// One file below `src/`: its path from there and its text.
struct Source {
    path: String,
    text: String,
}

#[test]
fn the_source_is_laid_out_as_designed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Vec::new();
    read_folder(&root, &root, &mut sources);
    assert!(sources.len() > 20, "only {} files were found", sources.len());
    let faults = check(&sources);
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

fn read_folder(root: &Path, folder: &Path, into: &mut Vec<Source>) {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.starts_with('.') || name == "target" || name == "node_modules" {
            continue;
        }
        if path.is_dir() {
            read_folder(root, &path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            into.push(Source { path: name, text: std::fs::read_to_string(&path).unwrap() });
        }
    }
}

fn check(sources: &[Source]) -> Vec<String> {
    let code: Vec<(String, String)> =
        sources.iter().map(|source| (source.path.clone(), without_comments_and_strings(&source.text))).collect();
    let both = sources.iter().zip(&code);
    let tests: Vec<String> = both.flat_map(|(source, (path, code))| test_modules(path, &source.text, code)).collect();
    let mut faults = Vec::new();
    for (source, (path, code)) in sources.iter().zip(&code) {
        let lines = source.text.lines().count();
        if lines > FILE_MAX_LINES {
            faults.push(format!("src/{path}: {lines} lines, more than {FILE_MAX_LINES}"));
        }
        if tests.iter().any(|test| path == &format!("{test}.rs") || path.starts_with(&format!("{test}/"))) {
            continue;
        }
        let code = without_tests(code);
        check_functions(path, &code, &mut faults);
        check_arrows(path, &code, &mut faults);
        check_bans(path, &code, &mut faults);
    }
    faults
}

/// The room of a file: `log` of `log/fetch/read.rs`, `config` of `config.rs`.
fn room_of(path: &str) -> &str {
    path.split('/').next().unwrap().trim_end_matches(".rs")
}

fn line_of(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}

fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

/// Places of `word`, where it does not continue a longer name on the sides where it begins or ends with a letter.
fn places<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let (first, last) = (word.chars().next().unwrap(), word.chars().last().unwrap());
    code.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let before = code[..*at].chars().last().unwrap_or(' ');
        let after = code[at + word.len()..].chars().next().unwrap_or(' ');
        !(is_word(first) && is_word(before) || is_word(last) && is_word(after))
    })
}

fn check_bans(path: &str, code: &str, faults: &mut Vec<String>) {
    for ban in BANS.iter().filter(|ban| !ban.allowed.iter().any(|allowed| path.starts_with(allowed))) {
        for word in ban.words {
            for at in places(code, word) {
                faults.push(format!("src/{path}:{}: {word} is banned here: {}", line_of(code, at), ban.why));
            }
            let Some((prefix, name)) = word.rsplit_once("::") else { continue };
            let group = format!("{prefix}::{{");
            for at in
                places(code, &group).filter(|at| targets(&code[at + prefix.len() + 2..]).iter().any(|one| one == name))
            {
                faults.push(format!("src/{path}:{}: {word} is banned here: {}", line_of(code, at), ban.why));
            }
        }
    }
}

fn check_arrows(path: &str, code: &str, faults: &mut Vec<String>) {
    let room = room_of(path);
    let Some((_, allowed)) = ARROWS.iter().find(|(known, _)| *known == room) else {
        faults.push(format!("src/{path}: {room} is no room of the table"));
        return;
    };
    let depth = path.matches('/').count() - usize::from(path.ends_with("/mod.rs"));
    // From a file at the top of a room, `super::` reaches the other rooms as `crate::` does.
    let roots: &[&str] = match (room, depth) {
        ("main", _) => &["alluvium::"],
        (_, 0) => &["crate::", "super::"],
        _ => &["crate::"],
    };
    for root in roots {
        for at in places(code, root) {
            for target in targets(&code[at + root.len()..]) {
                let is_room = ARROWS.iter().any(|(known, _)| *known == target);
                if is_room && target != room && !allowed.contains(&target.as_str()) {
                    faults.push(format!("src/{path}:{}: {room} may not know {target}", line_of(code, at)));
                }
            }
        }
    }
}

/// First names behind `crate::`: one, or those of a group `{a::b, c}`.
fn targets(rest: &str) -> Vec<String> {
    let name = |text: &str| text.trim_start().chars().take_while(|letter| is_word(*letter)).collect::<String>();
    if !rest.starts_with('{') {
        return vec![name(rest)];
    }
    let end = matching(rest, 0);
    let (mut depth, mut start, mut names) = (0, 1, Vec::new());
    for (at, letter) in rest[..end].char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => {
                names.push(name(&rest[start..at]));
                start = at + 1;
            }
            _ => {}
        }
    }
    names.push(name(&rest[start..end]));
    names
}

/// Where the brace that opens at `open` closes, or the end.
fn matching(code: &str, open: usize) -> usize {
    let mut depth = 0;
    for (at, letter) in code[open..].char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => {
                depth -= 1;
                if depth == 0 {
                    return open + at;
                }
            }
            _ => {}
        }
    }
    code.len()
}

fn check_functions(path: &str, code: &str, faults: &mut Vec<String>) {
    for at in places(code, "fn") {
        let name: String = code[at + 2..].trim_start().chars().take_while(|letter| is_word(*letter)).collect();
        let mut depth = 0;
        let body = code[at..].char_indices().find(|(_, letter)| {
            match letter {
                '(' | '[' => depth += 1,
                ')' | ']' => depth -= 1,
                _ => {}
            }
            depth == 0 && matches!(letter, '{' | ';')
        });
        let Some((open, '{')) = body else { continue };
        if name.is_empty() {
            continue;
        }
        let end = matching(code, at + open);
        let lines = code[at..end].matches('\n').count() + 1;
        if lines > FUNCTION_MAX_LINES {
            faults.push(format!(
                "src/{path}:{}: fn {name} has {lines} lines, more than {FUNCTION_MAX_LINES}",
                line_of(code, at)
            ));
        }
    }
}

/// Files that are `#[cfg(test)] mod name;` of this one, without `.rs`, also when a `#[path]` says where they are.
fn test_modules(path: &str, text: &str, code: &str) -> Vec<String> {
    let own_folder = path.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
    let folder = match path.strip_suffix("/mod.rs") {
        Some(folder) => folder.to_owned(),
        None => path.trim_end_matches(".rs").to_owned(),
    };
    let declared = code.match_indices("#[cfg(test)]").filter_map(|(at, attribute)| {
        let from = at + attribute.len();
        let end = from + code[from..].find(['{', ';'])?;
        let words: Vec<&str> = code[from..end].split_whitespace().collect();
        let [.., "mod", name] = words[..] else { return None };
        let elsewhere = text[from..end].split_once("#[path = \"").and_then(|(_, rest)| rest.split_once(".rs\""));
        code[end..].starts_with(';').then(|| match elsewhere {
            Some((file, _)) => format!("{own_folder}{file}"),
            None => format!("{folder}/{name}"),
        })
    });
    declared.collect()
}

/// Blanks every item under `#[cfg(test)]`, keeping lines.
fn without_tests(code: &str) -> String {
    let mut code = code.to_owned();
    let mut from = 0;
    while let Some(found) = code[from..].find("#[cfg(test)]") {
        let start = from + found;
        let item = code[start..].find(['{', ';']).map_or(code.len(), |at| start + at);
        let end = if code[item..].starts_with('{') { matching(&code, item) } else { item };
        let blank: String = code[start..end].chars().map(|letter| if letter == '\n' { '\n' } else { ' ' }).collect();
        code = format!("{}{blank}{}", &code[..start], &code[end..]);
        from = start + blank.len();
    }
    code
}

/// Replaces comments and the content of string and character literals by spaces, keeping lines and positions.
fn without_comments_and_strings(text: &str) -> String {
    let letters: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < letters.len() {
        let end = literal_end(&letters, at, code.chars().last().unwrap_or(' '));
        if end == at {
            code.push(letters[at]);
            at += 1;
        } else {
            for letter in &letters[at..end] {
                code.push_str(if *letter == '\n' { "\n" } else { &"    "[..letter.len_utf8()] });
            }
            at = end;
        }
    }
    code
}

/// The end of the comment or literal that begins at `at`; `at` itself if none does.
fn literal_end(letters: &[char], at: usize, before: char) -> usize {
    let starts =
        |from: usize, word: &str| letters[from.min(letters.len())..].iter().copied().take(word.len()).eq(word.chars());
    let find = |from: usize, word: &str| {
        (from..letters.len()).find(|at| starts(*at, word)).map_or(letters.len(), |at| at + word.len())
    };
    if starts(at, "//") {
        return (at..letters.len()).find(|at| letters[*at] == '\n').unwrap_or(letters.len());
    }
    if starts(at, "/*") {
        let (mut depth, mut now) = (0, at);
        while now < letters.len() {
            if starts(now, "/*") {
                (depth, now) = (depth + 1, now + 2);
            } else if starts(now, "*/") {
                (depth, now) = (depth - 1, now + 2);
                if depth == 0 {
                    break;
                }
            } else {
                now += 1;
            }
        }
        return now;
    }
    if letters[at] == 'r' && !is_word(before) || starts(at, "br") && !is_word(before) {
        let mark = at + 1 + usize::from(letters[at] == 'b');
        let hashes = letters[mark..].iter().take_while(|letter| **letter == '#').count();
        if letters.get(mark + hashes) == Some(&'"') {
            return find(mark + hashes + 1, &format!("\"{}", "#".repeat(hashes)));
        }
    }
    let quote = letters[at];
    let is_character = quote == '\'' && (letters.get(at + 1) == Some(&'\\') || letters.get(at + 2) == Some(&'\''));
    if quote != '"' && !is_character {
        return at;
    }
    let mut now = at + 1;
    while now < letters.len() && letters[now] != quote {
        now += if letters[now] == '\\' { 2 } else { 1 };
    }
    (now + 1).min(letters.len())
}

/// Faults of one file with this path and text.
fn faults_of(path: &str, text: &str) -> Vec<String> {
    check(&[Source { path: path.to_owned(), text: text.to_owned() }])
}

#[test]
fn forbidden_arrows_are_found() {
    for (path, text, fault) in [
        ("types/x.rs", "use crate::store::Store;", "src/types/x.rs:1: types may not know store"),
        ("wire/mod.rs", "\nuse super::meta::Image;", "src/wire/mod.rs:2: wire may not know meta"),
        ("store/a/b.rs", "fn f() { crate::log::go() }", "src/store/a/b.rs:1: store may not know log"),
        ("meta/x.rs", "use crate::{types::{A, B}, api::C, store::D};", "src/meta/x.rs:1: meta may not know api"),
        ("broker.rs", "use crate::cli;", "src/broker.rs:1: broker may not know cli"),
        ("main.rs", "fn main() { alluvium::broker::run() }", "src/main.rs:1: main may not know broker"),
        ("util/mod.rs", "", "src/util/mod.rs: util is no room of the table"),
    ] {
        assert_eq!(faults_of(path, text), [fault]);
    }
    for (path, text) in [
        ("log/x.rs", "use crate::{meta::image::Image, store, types::Offset};"),
        (
            "wire/mod.rs",
            "// use crate::api;\nconst A: &str = \"crate::api::x\"; /* crate::log /* nested */ crate::log */",
        ),
        ("wire/x.rs", "use super::store_of_fields;\n#[cfg(test)]\nmod tests { use crate::api; }"),
        ("segment/x.rs", "use my_crate::api;"),
    ] {
        assert_eq!(faults_of(path, text), [""; 0], "{path}");
    }
}

#[test]
fn banned_calls_are_found() {
    for (path, text, word) in [
        ("log/x.rs", "fn f() { a.unwrap(); }", ".unwrap()"),
        ("log/x.rs", "fn f() { todo!() }", "todo!"),
        ("log/x.rs", "fn f() { println!(\"x\") }", "println!"),
        ("log/x.rs", "use std::time::{Duration, SystemTime};", "SystemTime"),
        ("log/x.rs", "fn f() { std::time::Instant::now() }", "std::time::Instant"),
        ("log/x.rs", "use std::time::{Duration, Instant};", "std::time::Instant"),
        ("log/x.rs", "fn f() { rand::thread_rng() }", "thread_rng"),
        ("log/x.rs", "fn f() { tokio::task::spawn_blocking(g) }", "spawn_blocking"),
        ("meta/x.rs", "fn f() { std::fs::read(p) }", "std::fs"),
        ("store/s3.rs", "fn f() { std::process::exit(1) }", "process::exit"),
    ] {
        let faults = faults_of(path, text);
        assert!(faults.len() == 1 && faults[0].contains(&format!(": {word} is banned here")), "{text}: {faults:?}");
    }
    for (path, text) in [
        ("cli/x.rs", "fn f() { println!(\"todo!\") }"),
        ("store/local/x.rs", "fn f() { tokio::task::spawn_blocking(g); std::fs::read(p); }"),
        ("types/env.rs", "use rustix::rand::getrandom;"),
        (
            "log/x.rs",
            "use tokio::time::Instant; fn f<'a>(x: &'a str) { let quote = '\"'; a.unwrap_or(1); let c = '\\''; }",
        ),
        ("log/x.rs", "const A: &str = r#\"a \" .unwrap() \"#; // .unwrap()\n"),
        ("log/x.rs", "#[cfg(test)]\nmod tests {\n fn f() { { a.unwrap(); } }\n}\nfn g() {}"),
    ] {
        assert_eq!(faults_of(path, text), [""; 0], "{path}");
    }
}

#[test]
fn long_files_and_functions_are_found() {
    let body = |lines: usize| {
        format!("impl A {{\n    async fn long<T>(a: [u8; 3]) -> T {{\n{}    }}\n}}\n", "        g();\n".repeat(lines))
    };
    assert_eq!(faults_of("log/x.rs", &body(68)), [""; 0]);
    assert_eq!(faults_of("log/x.rs", &body(69)), ["src/log/x.rs:2: fn long has 71 lines, more than 70"]);
    assert_eq!(
        faults_of("log/x.rs", &format!("type F = fn(u8);\ntrait T {{ fn a(); }}\n{}", "\n".repeat(90))),
        [""; 0]
    );
    assert_eq!(faults_of("log/x.rs", &"\n".repeat(500)), [""; 0]);
    assert_eq!(faults_of("log/x.rs", &"\n".repeat(501)), ["src/log/x.rs: 501 lines, more than 500"]);
}

#[test]
fn files_of_tests_may_unwrap_but_not_grow() {
    let sources = |declaration: &str, file: &str, test: &str| {
        let declare = Source { path: "log/mod.rs".to_owned(), text: declaration.to_owned() };
        check(&[declare, Source { path: file.to_owned(), text: test.to_owned() }]).len()
    };
    let unwrap = "fn f() { a.unwrap() }";
    assert_eq!(sources("#[cfg(test)]\nmod tests;\nmod x;", "log/tests.rs", unwrap), 0);
    assert_eq!(sources("#[cfg(test)]\nmod tests;\nmod x;", "log/x.rs", unwrap), 1);
    assert_eq!(sources("#[cfg(test)]\nmod tests;\nmod x;", "log/tests.rs", &"\n".repeat(501)), 1);
    assert_eq!(sources("#[cfg(test)] // …\n#[path = \"x_tests.rs\"]\nmod tests;", "log/x_tests.rs", unwrap), 0);
    assert_eq!(sources("mod tests;", "log/tests.rs", unwrap), 1);
}
