//! docker/kubernetes.yaml: the manifest is valid, its arguments and probes work with the image that it names, and
//! podman plays the manifest.

use std::fs;
use std::process::Command;
use std::time::Instant;

use serde_json::Value;

use super::base::{directory, example, ready};
use super::{Container, Engine, Image, docker, podman, run};
use crate::support::{eventually, needs, proc, python};

/// The Python package that validates manifests with the schemas of Kubernetes, and its YAML reader.
const VALIDATOR: &str = "kubernetes-validate==1.37.0";
const MODULE: &str = "kubernetes_validate";

/// The manifest.
fn manifest() -> Value {
    let print = "import json, sys, yaml; print(json.dumps(yaml.safe_load(open(sys.argv[1]))))";
    let python = python::with(VALIDATOR, MODULE).unwrap();
    let json = run(Command::new(python).args(["-c", print]).arg(directory().join("kubernetes.yaml")));
    serde_json::from_str(&json).unwrap()
}

/// The only container of a manifest.
fn container(manifest: &mut Value) -> &mut Value {
    &mut manifest["spec"]["template"]["spec"]["containers"][0]
}

/// The image that a container names, without a registry.
fn image(container: &Value) -> Image {
    let name = container["image"].as_str().unwrap();
    example(docker().unwrap(), name.strip_suffix("-example").unwrap())
}

/// The words of a list.
fn words(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect()
}

#[test]
fn the_manifest_is_valid() {
    needs!(python::with(VALIDATOR, MODULE));
    let python = python::with(VALIDATOR, MODULE).unwrap();
    run(Command::new(python.with_file_name("kubernetes-validate"))
        .arg("--strict")
        .arg(directory().join("kubernetes.yaml")));
}

/// Waits until the commands of both probes succeed.
fn expect_probes(manifest: &Value, container: &Container) {
    for probe in ["readinessProbe", "livenessProbe"] {
        let command = words(&manifest[probe]["exec"]["command"]);
        eventually(probe, || container.exec(&command).status.success().then_some(()));
    }
}

#[test]
fn its_arguments_and_probes_fit_its_image() {
    needs!(ready(), python::with(VALIDATOR, MODULE));
    let mut manifest = manifest();
    let manifest = container(&mut manifest);
    let image = image(manifest);
    let options = ["--user", "65534:65534", "--read-only", "--cap-drop", "ALL"];
    let container = image.start(&options, &words(&manifest["args"]));
    container.expect_running(&["web", "clock"]);
    expect_probes(manifest, &container);
    container.stop_well();
}

/// The pods of a manifest. Dropping the value removes the pods, also those that podman could not start.
struct Pods<'a> {
    file: &'a str,
}

impl Drop for Pods<'_> {
    fn drop(&mut self) {
        let _output = Engine::Podman.command(&["kube", "down", self.file]).output();
    }
}

#[test]
fn podman_plays_the_manifest() {
    needs!(ready(), python::with(VALIDATOR, MODULE), podman());
    let mut manifest = manifest();
    let image = image(container(&mut manifest)).copy_to(Engine::Podman);
    let container_with_probes = container(&mut manifest).clone();
    // podman publishes each containerPort as the same port of the host, which another process or replica may have.
    // podman 4.3 runs the commands of probes through a shell, which this image does not have.
    for key in ["ports", "readinessProbe", "livenessProbe"] {
        container(&mut manifest).as_object_mut().unwrap().remove(key).unwrap();
    }
    container(&mut manifest)["image"] = image.name.clone().into();
    manifest["metadata"]["name"] = image.name.replace(':', "-").into();
    let file = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
    fs::write(file.path(), manifest.to_string()).unwrap();

    let pods = Pods { file: file.path().to_str().unwrap() };
    let played = Engine::Podman.call(&["kube", "play", "--network", "none", pods.file]);
    // podman prints the line `Pod:`, the pod's id, the line `Container:` and the container's id.
    let after = |title: &str| {
        let ids = played.lines().zip(played.lines().skip(1)).filter(|(line, _)| *line == title);
        ids.map(|(_, id)| id.to_owned()).collect::<Vec<_>>()
    };
    let ids = after("Pod:");
    let containers = after("Container:");
    assert!(!ids.is_empty() && ids.len() == containers.len(), "{played}");
    for (pod, id) in ids.iter().zip(containers) {
        let container = Container { image: &image, id, _dir: tempfile::tempdir().unwrap() };
        container.expect_running(&["web", "clock"]);
        expect_probes(&container_with_probes, &container);

        let pid = container.pid();
        let mounts = fs::read_to_string(format!("/proc/{pid}/mounts")).unwrap();
        let root = mounts.lines().find(|line| line.split(' ').nth(1) == Some("/")).unwrap();
        assert!(
            root.split(' ').nth(3).unwrap().starts_with("ro,"),
            "the root file system is read-only: {root}"
        );
        for process in proc::children(pid).iter().map(|child| child.pid).chain([pid]) {
            let status = |key: &str| proc::status(process, key).unwrap();
            assert_eq!(status("Uid"), "65534\t65534\t65534\t65534");
            assert_eq!(status("Gid"), "65534\t65534\t65534\t65534");
            assert_eq!((status("CapBnd").as_str(), status("NoNewPrivs").as_str()), ("0000000000000000", "1"));
        }

        let before = Instant::now();
        Engine::Podman.call(&["pod", "stop", pod]);
        container.expect_good_stop(before.elapsed());
    }
}
