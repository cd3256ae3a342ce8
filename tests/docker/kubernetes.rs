//! docker/kubernetes.yaml: the manifest is valid, and its arguments and probes work with the image that it names.

use std::process::Command;

use serde_json::Value;

use super::base::{directory, example, ready};
use super::{docker, run};
use crate::support::{eventually, needs, python};

/// The Python package that validates manifests with the schemas of Kubernetes, and its YAML reader.
const VALIDATOR: &str = "kubernetes-validate==1.37.0";
const MODULE: &str = "kubernetes_validate";

/// The first container of the manifest.
fn container() -> Value {
    let print = "import json, sys, yaml; print(json.dumps(yaml.safe_load(open(sys.argv[1]))))";
    let python = python::with(VALIDATOR, MODULE).unwrap();
    let json = run(Command::new(python).args(["-c", print]).arg(directory().join("kubernetes.yaml")));
    let manifest: Value = serde_json::from_str(&json).unwrap();
    manifest["spec"]["template"]["spec"]["containers"][0].clone()
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

#[test]
fn its_arguments_and_probes_fit_its_image() {
    needs!(ready(), python::with(VALIDATOR, MODULE));
    let manifest = container();
    let image = example(docker().unwrap(), manifest["image"].as_str().unwrap().trim_end_matches("-example"));
    let options = ["--user", "65534:65534", "--read-only", "--cap-drop", "ALL"];
    let container = image.start(&options, &words(&manifest["args"]));
    container.expect_running(&["web", "clock"]);
    for probe in ["readinessProbe", "livenessProbe"] {
        let command = words(&manifest[probe]["exec"]["command"]);
        eventually(probe, || container.exec(&command).status.success().then_some(()));
    }
    container.stop_well();
}
