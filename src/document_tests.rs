use super::{field, read, write};
use api::v1;
use api::v1::resource::Resource as Union;

const ALL: &str = "\
apiVersion: switchyard.dev/v1alpha1
kind: Tenant
metadata: {name: acme}
spec: {vni: 100, budget: {unanswered: 10, established: 20}}
---
# an attachment
apiVersion: switchyard.dev/v1alpha1
kind: Attachment
metadata: {name: clients, tenant: acme}
spec: {side: client, interface: eth0, vlan: 7, prefixes: [192.0.2.0/24]}
---
apiVersion: switchyard.dev/v1alpha1
kind: NetworkFunction
metadata: {name: fw}
spec:
  forwarding: transparent
  tupleEffect: keeps
  shared: {isolatesState: true, tags: [{tenant: acme, vlan: 7}]}
---
apiVersion: switchyard.dev/v1alpha1
kind: ReplicaSet
metadata: {name: v1, networkFunction: fw}
spec: {maxMembers: 10}
---
apiVersion: switchyard.dev/v1alpha1
kind: Instance
metadata: {name: a, networkFunction: fw, replicaSet: v1}
spec:
  weight: 0
  inside: {interface: fwa0, mac: '02:00:00:00:00:01'}
  outside: {interface: fwa1, mac: '02:00:00:00:00:02'}
  outsideBlocks: [{prefix: 198.51.100.1/32, ports: {first: 1024, last: 2047}}]
---
apiVersion: switchyard.dev/v1alpha1
kind: Graph
metadata: {name: web, tenant: acme}
spec:
  clientAttachments: [clients]
  serverAttachments: [servers]
  nodes: [{name: fw, replicaSet: fw/v1}]
  edges:
    - {to: fw}
    - {from: fw, match: {protocol: tcp, serverPorts: [{first: 80, last: 80}]}}
";

#[test]
fn every_kind_is_read() {
    let sources = read("all.yaml", ALL).expect("documents are well-formed");
    let titles: Vec<&str> = sources.iter().map(|source| source.title.as_str()).collect();
    assert_eq!(
        titles,
        [
            "Tenant tenants/acme",
            "Attachment tenants/acme/attachments/clients",
            "NetworkFunction networkFunctions/fw",
            "ReplicaSet networkFunctions/fw/replicaSets/v1",
            "Instance networkFunctions/fw/replicaSets/v1/instances/a",
            "Graph tenants/acme/graphs/web",
        ]
    );
    assert_eq!(sources[1].place, "all.yaml:6");
    let Some(Union::NetworkFunction(function)) = &sources[2].resource.resource else { panic!("no function") };
    assert_eq!(function.forwarding(), v1::Forwarding::Transparent);
    assert_eq!(function.tuple_effect(), v1::TupleEffect::Keeps);
    assert_eq!(function.shared.as_ref().map(|shared| shared.tags[0].tenant.as_str()), Some("tenants/acme"));
    let Some(Union::Instance(instance)) = &sources[4].resource.resource else { panic!("no instance") };
    assert_eq!(instance.weight, Some(0), "a weight of 0 is not the absence of a weight");
    let Some(Union::Graph(graph)) = &sources[5].resource.resource else { panic!("no graph") };
    assert_eq!(graph.nodes[0].replica_set, "networkFunctions/fw/replicaSets/v1");
}

#[test]
fn what_is_written_is_read_back_the_same() {
    for source in read("all.yaml", ALL).expect("documents are well-formed") {
        let document = write(&source.resource).expect("a document");
        let yaml = serde_saphyr::to_string(&document).expect("YAML");
        let json = serde_json::to_string(&document).expect("JSON");
        for text in [yaml, json] {
            let again = read("again", &text).unwrap_or_else(|problems| panic!("{problems:?}\n{text}"));
            assert_eq!(again[0].resource, source.resource, "{text}");
        }
    }
}

#[test]
fn every_document_that_is_wrong_is_reported_with_its_place() {
    let text = "\
apiVersion: switchyard.dev/v1alpha1
kind: Tenant
metadata: {name: acme}
spec:
  budget: {unanswered: many}
---
apiVersion: switchyard.dev/v1alpha1
kind: Attachment
metadata: {name: clients, tenant: acme}
spec:
  side: left
---
apiVersion: switchyard.dev/v1alpha1
kind: Graph
metadata: {name: web}
spec: {}
---
apiVersion: switchyard.dev/v1alpha1
kind: Router
---
apiVersion: v1
kind: Tenant
---
apiVersion: switchyard.dev/v1alpha1
kind: Tenant
metadata: {name: [}
---
apiVersion: switchyard.dev/v1alpha1
kind: Tenant
metadata: {name: acme}
spec: {bugdet: {}}
";
    let problems = read("bad.yaml", text).expect_err("nothing of it is right");
    let starts = [
        ("bad.yaml:5:24: invalid u32", ""),
        ("bad.yaml:11:", "left"),
        ("bad.yaml:13:1: metadata.tenant must be given", ""),
        ("bad.yaml:18:1: kind", "Router"),
        ("bad.yaml:21:1: apiVersion", "v1"),
        ("bad.yaml:26:", ""),
        ("bad.yaml:31:", "bugdet"),
    ];
    assert_eq!(problems.len(), starts.len(), "{problems:#?}");
    for (problem, (start, word)) in problems.iter().zip(starts) {
        assert!(
            problem.starts_with(start) && problem.contains(word),
            "{problem} should begin with {start}, name {word}"
        );
    }
}

#[test]
fn an_owner_that_does_not_belong_is_refused() {
    let text = "apiVersion: switchyard.dev/v1alpha1\nkind: Tenant\nmetadata: {name: a, tenant: b}\nspec: {}\n";
    let problems = read("x", text).expect_err("tenants have no owner");
    assert_eq!(problems, ["x:1:1: metadata.tenant does not belong to a Tenant"]);
}

#[test]
fn field_paths_become_those_of_documents() {
    assert_eq!(field("graph.edges[0].match.client_ports[1]"), "spec.edges[0].match.clientPorts[1]");
    assert_eq!(field("tenant.name"), "metadata");
    assert_eq!(field("tenant"), "metadata");
}
