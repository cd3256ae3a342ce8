//! Finds out which source file imports which, from the paths in the text of the files.
//!
//! An import is any path to another file, in a `use` or elsewhere in the code: `crate::log::Log`,
//! `super::errno::Errno`, `kill::kill_all()`. A `mod` declaration is no import. A re-export in a `mod.rs`, such as
//! `pub use kill::Pid;`, is no import either: a path to a re-exported name counts as an import of the file that defines
//! the name. Uses without a path, such as calls of methods, are not seen.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

/// The files that each file imports.
pub(crate) type Imports = BTreeMap<PathBuf, BTreeSet<PathBuf>>;

/// The parts of a path to a module or to an item, without `crate`.
type Names = Vec<String>;

/// The imports of these files. A file is given as its path below `src/` and its code without comments.
pub(crate) fn imports(files: &[(PathBuf, String)]) -> Imports {
    let mut sources = Sources::default();
    for (file, _) in files {
        sources.files.insert(module_of(file), file.clone());
    }
    let uses: Vec<_> = files.iter().map(|(_, code)| paths(code)).collect();
    for ((file, _), paths) in files.iter().zip(&uses) {
        sources.add_names(&module_of(file), paths);
    }
    let mut imports = Imports::new();
    for ((file, _), paths) in files.iter().zip(&uses) {
        let is_table = file.ends_with("mod.rs") || file.ends_with("lib.rs");
        let paths = paths.iter().filter(|path| !(is_table && path.kind == Kind::PublicUse));
        let targets = paths.filter_map(|path| sources.file_of(&module_of(file), &path.names));
        imports.insert(file.clone(), targets.filter(|target| target != file).collect());
    }
    imports
}

/// The cycles of imports: for each file in a cycle, the files of its shortest cycle.
pub(crate) fn cycles(imports: &Imports) -> BTreeSet<Vec<&Path>> {
    imports.keys().filter_map(|file| shortest_cycle(imports, file)).collect()
}

/// The files of the shortest cycle that contains this file, in alphabetical order.
fn shortest_cycle<'a>(imports: &'a Imports, start: &'a Path) -> Option<Vec<&'a Path>> {
    // A breadth-first search finds the shortest way from the file back to the file.
    let mut found_from: BTreeMap<&Path, &Path> = BTreeMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(file) = queue.pop_front() {
        for next in imports.get(file).into_iter().flatten().map(PathBuf::as_path) {
            if !found_from.contains_key(next) {
                found_from.insert(next, file);
                queue.push_back(next);
            }
        }
    }
    let mut files = vec![start];
    let mut file = *found_from.get(start)?;
    while file != start {
        files.push(file);
        file = found_from[file];
    }
    files.sort();
    Some(files)
}

/// The module that a file defines: `a/b.rs` and `a/b/mod.rs` define `a::b`, and `lib.rs` defines the crate itself.
fn module_of(file: &Path) -> Names {
    let mut names: Names =
        file.with_extension("").iter().map(|name| name.to_str().unwrap().to_owned()).collect();
    if names.last().is_some_and(|last| last == "mod") || names == ["lib"] {
        names.pop();
    }
    names
}

#[derive(Default)]
struct Sources {
    /// The file of each module.
    files: BTreeMap<Names, PathBuf>,
    /// The targets of the names that the `use` declarations of a module define; none for a target in another crate.
    names: BTreeMap<(Names, String), Option<Names>>,
}

impl Sources {
    fn add_names(&mut self, module: &Names, paths: &[PathInCode]) {
        for path in paths.iter().filter(|path| path.kind != Kind::Code) {
            let target = self.absolute(module, &path.names);
            self.names.insert((module.clone(), path.name.clone()), target);
        }
    }

    /// The names from the crate to the target of a path in this module; none for a target in another crate.
    fn absolute(&self, module: &Names, path: &[String]) -> Option<Names> {
        let mut base = module.clone();
        let mut names = path;
        while let [first, others @ ..] = names {
            match first.as_str() {
                "crate" => base.clear(),
                "super" => drop(base.pop()?),
                "self" => {}
                _ => break,
            }
            names = others;
        }
        if names.len() == path.len() {
            // The path begins with a child module or with a name of a `use` declaration.
            let (first, others) = names.split_first()?;
            base.push(first.clone());
            if !self.files.contains_key(&base) {
                base = self.names.get(&(module.clone(), first.clone()))?.clone()?;
            }
            names = others;
        }
        Some([&base, names].concat())
    }

    /// The file that defines the target of a path in this module; none for a whole module and for a target in another
    /// crate.
    fn file_of(&self, module: &Names, path: &[String]) -> Option<PathBuf> {
        let mut target = self.absolute(module, path)?;
        // Each round replaces one re-exported name by its target. The target may be a re-exported name too.
        for _ in 0..10 {
            let depth = (0..=target.len()).rev().find(|depth| self.files.contains_key(&target[..*depth]))?;
            let (module, item) = target.split_at(depth);
            let (name, others) = item.split_first()?;
            target = match self.names.get(&(module.to_vec(), name.clone())) {
                Some(re_exported) => [re_exported.as_ref()?, others].concat(),
                None => return Some(self.files[module].clone()),
            };
        }
        None
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A path outside of `use` declarations.
    Code,
    Use,
    /// A `use` with `pub`, which is a re-export.
    PublicUse,
}

/// A path as the code writes it.
struct PathInCode {
    names: Names,
    /// The name that a `use` declaration gives to the target of the path.
    name: String,
    kind: Kind,
}

/// All paths with `::` in the code, and all `use` declarations. A `use` with braces counts as several paths.
fn paths(code: &str) -> Vec<PathInCode> {
    let tokens = tokens(code);
    let mut paths = vec![];
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at] == "use" {
            let kind =
                if at > 0 && ["pub", ")"].contains(&tokens[at - 1]) { Kind::PublicUse } else { Kind::Use };
            at += 1;
            read_tree(&tokens, &mut at, &[], kind, &mut paths);
        } else if is_name(tokens[at]) && tokens.get(at + 1) == Some(&"::") {
            read_tree(&tokens, &mut at, &[], Kind::Code, &mut paths);
        } else {
            at += 1;
        }
    }
    paths
}

/// Reads a path, or a list of paths in braces, that follows these names and `::`.
fn read_tree(tokens: &[&str], at: &mut usize, before: &[String], kind: Kind, paths: &mut Vec<PathInCode>) {
    let mut names = before.to_vec();
    loop {
        match tokens.get(*at) {
            Some(&"{") => {
                *at += 1;
                while tokens.get(*at).is_some_and(|token| *token != "}") {
                    let start = *at;
                    read_tree(tokens, at, &names, kind, paths);
                    *at += usize::from(*at == start || tokens.get(*at) == Some(&","));
                }
                *at += 1;
                return;
            }
            Some(name) if is_name(name) || *name == "*" => names.push((*name).to_owned()),
            // Type arguments end a path: `parse::<u8>`.
            _ => break,
        }
        *at += 1;
        if tokens.get(*at) != Some(&"::") {
            break;
        }
        *at += 1;
    }
    if names.len() > 1 && names.last().is_some_and(|last| last == "self") {
        names.pop();
    }
    let Some(mut name) = names.last().cloned() else { return };
    if kind != Kind::Code && tokens.get(*at) == Some(&"as") {
        name = tokens.get(*at + 1).copied().unwrap_or_default().to_owned();
        *at += 2;
    }
    paths.push(PathInCode { names, name, kind });
}

/// Splits code into names, `::`, and single other characters.
fn tokens(code: &str) -> Vec<&str> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut tokens = vec![];
    let mut left = code.trim_start();
    while let Some(first) = left.chars().next() {
        let length = match first {
            _ if is_word(first) => left.find(|c| !is_word(c)).unwrap_or(left.len()),
            _ if left.starts_with("::") => 2,
            _ => first.len_utf8(),
        };
        let (token, after) = left.split_at(length);
        tokens.push(token);
        left = after.trim_start();
    }
    tokens
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// The cycles in these made-up files, as text.
fn cycles_of(files: &[(&str, &str)]) -> Vec<String> {
    let files: Vec<_> = files.iter().map(|(path, code)| (path.into(), (*code).to_owned())).collect();
    let imports = imports(&files);
    let text =
        |cycle: &Vec<&Path>| cycle.iter().map(|file| file.to_str().unwrap()).collect::<Vec<_>>().join(" ");
    cycles(&imports).iter().map(text).collect()
}

#[test]
fn files_that_import_each_other_form_a_cycle() {
    let declarations = ("a/mod.rs", "mod x; mod y;");
    let cycle = ["a/x.rs a/y.rs"];
    for (x, y) in [
        ("use crate::a::y::Y;", "use super::x::X;"),
        ("use super::y::{self, Y as Other};", "use super::{x::{X, Z}, super::b};"),
        ("fn f() { crate::a::y::g() }", "fn g(x: super::x::X) {}"),
        ("use super::y; fn f() { y::g() }", "use super::x as other; fn g() { other::f::<u8>() }"),
        ("use crate::a; fn f() { a::y::g() }", "use super::super::a::x::X;"),
    ] {
        let files = [declarations, ("a/x.rs", x), ("a/y.rs", y)];
        assert_eq!(cycles_of(&files), cycle, "{x} {y}");
        assert!(cycles_of(&[declarations, ("a/x.rs", x), ("a/y.rs", "")]).is_empty(), "{x}");
        assert!(cycles_of(&[declarations, ("a/x.rs", ""), ("a/y.rs", y)]).is_empty(), "{y}");
    }
}

#[test]
fn a_cycle_may_lead_through_a_third_file_or_a_parent_module() {
    let third = [("x.rs", "use crate::y::Y;"), ("y.rs", "use crate::z::Z;"), ("z.rs", "use crate::x::X;")];
    assert_eq!(cycles_of(&third), ["x.rs y.rs z.rs"]);
    let parent = [("a/mod.rs", "mod x; use x::X; struct A(X);"), ("a/x.rs", "use super::A; struct X;")];
    assert_eq!(cycles_of(&parent), ["a/mod.rs a/x.rs"]);
}

#[test]
fn a_re_export_counts_as_the_file_that_it_names() {
    let table = ("a/mod.rs", "mod x; mod y; pub use x::X; pub(crate) use self::y::Y; pub use nix::Errno;");
    let crossed = [table, ("a/x.rs", "use super::Y;"), ("a/y.rs", "use crate::a::X;")];
    assert_eq!(cycles_of(&crossed), ["a/x.rs a/y.rs"]);
    let one_way =
        [table, ("a/x.rs", "use super::{Errno, Y};"), ("a/y.rs", "use super::Errno; use std::fmt;")];
    assert!(cycles_of(&one_way).is_empty());
    let itself = [table, ("a/x.rs", "use super::X;"), ("a/y.rs", "")];
    assert!(cycles_of(&itself).is_empty());
}
