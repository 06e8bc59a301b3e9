//! Compares the wire contract with an older one: things may be added, nothing may be removed, renumbered or changed.
//!
//! Reserved numbers are not looked at; nothing is ever removed, so there are none.

use std::collections::BTreeMap;

use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet, MethodDescriptorProto,
};

/// Everything named in a contract, by its full name.
#[derive(Default)]
struct Contract<'a> {
    messages: BTreeMap<String, &'a DescriptorProto>,
    enums: BTreeMap<String, &'a EnumDescriptorProto>,
    methods: BTreeMap<String, &'a MethodDescriptorProto>,
}

impl<'a> Contract<'a> {
    fn of(files: &'a FileDescriptorSet) -> Self {
        let mut contract = Self::default();
        for file in &files.file {
            contract.add(file.package(), &file.message_type, &file.enum_type);
            for service in &file.service {
                for method in &service.method {
                    let name = format!("{}.{}/{}", file.package(), service.name(), method.name());
                    contract.methods.insert(name, method);
                }
            }
        }
        contract
    }

    fn add(&mut self, scope: &str, messages: &'a [DescriptorProto], enums: &'a [EnumDescriptorProto]) {
        for it in enums {
            self.enums.insert(format!("{scope}.{}", it.name()), it);
        }
        for message in messages {
            let name = format!("{scope}.{}", message.name());
            self.add(&name, &message.nested_type, &message.enum_type);
            self.messages.insert(name, message);
        }
    }
}

/// Every breach of what `old` promised, a line each; empty if `new` keeps it all.
pub fn breaches(old: &FileDescriptorSet, new: &FileDescriptorSet) -> Vec<String> {
    let (old, new) = (Contract::of(old), Contract::of(new));
    let mut found = Vec::new();
    for (name, message) in &old.messages {
        match new.messages.get(name) {
            Some(now) => compare_messages(name, message, now, &mut found),
            None => found.push(format!("message {name} was removed")),
        }
    }
    for (name, values) in &old.enums {
        match new.enums.get(name) {
            Some(now) => compare_enums(name, values, now, &mut found),
            None => found.push(format!("enum {name} was removed")),
        }
    }
    for (name, method) in &old.methods {
        match new.methods.get(name) {
            Some(now) if signature(method) == signature(now) => {}
            Some(_) => found.push(format!("method {name} has other types")),
            None => found.push(format!("method {name} was removed")),
        }
    }
    found
}

fn compare_messages(name: &str, old: &DescriptorProto, new: &DescriptorProto, found: &mut Vec<String>) {
    for field in &old.field {
        let Some(now) = new.field.iter().find(|now| now.name() == field.name()) else {
            found.push(format!("field {name}.{} was removed", field.name()));
            continue;
        };
        if now.number() != field.number() {
            let (was, is) = (field.number(), now.number());
            found.push(format!("field {name}.{} was number {was} and is {is}", field.name()));
        }
        if shape(old, field) != shape(new, now) {
            found.push(format!("field {name}.{} has another type", field.name()));
        }
    }
}

/// What decides how a field is encoded, and what its absence means.
fn shape<'a>(message: &'a DescriptorProto, field: &'a FieldDescriptorProto) -> impl PartialEq + use<'a> {
    let oneof = field.oneof_index.filter(|_| !field.proto3_optional());
    let oneof = oneof.and_then(|at| message.oneof_decl.get(at as usize)).map(|oneof| oneof.name());
    (field.r#type(), field.type_name(), field.label(), field.proto3_optional(), oneof)
}

fn compare_enums(name: &str, old: &EnumDescriptorProto, new: &EnumDescriptorProto, found: &mut Vec<String>) {
    for value in &old.value {
        match new.value.iter().find(|now| now.name() == value.name()) {
            Some(now) if now.number() == value.number() => {}
            Some(now) => {
                let (was, is) = (value.number(), now.number());
                found.push(format!("value {name}.{} was number {was} and is {is}", value.name()));
            }
            None => found.push(format!("value {name}.{} was removed", value.name())),
        }
    }
}

fn signature(method: &MethodDescriptorProto) -> impl PartialEq + use<'_> {
    (method.input_type(), method.output_type(), method.client_streaming(), method.server_streaming())
}

/// Names of the fields of one oneof: how many kinds there are of what it holds.
pub fn kinds<'a>(files: &'a FileDescriptorSet, message: &str, oneof: &str) -> Vec<&'a str> {
    let contract = Contract::of(files);
    let Some(message) = contract.messages.get(message) else { return Vec::new() };
    let at = message.oneof_decl.iter().position(|it| it.name() == oneof).map(|at| at as i32);
    message.field.iter().filter(|field| at.is_some() && field.oneof_index == at).map(|field| field.name()).collect()
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    fn present() -> FileDescriptorSet {
        FileDescriptorSet::decode(flowyard_proto::DESCRIPTORS).unwrap()
    }

    /// What is found when the present contract becomes this.
    fn after(change: impl FnOnce(&mut FileDescriptorSet)) -> Vec<String> {
        let mut new = present();
        change(&mut new);
        breaches(&present(), &new)
    }

    fn message<'a>(files: &'a mut FileDescriptorSet, name: &str) -> &'a mut DescriptorProto {
        let messages = files.file.iter_mut().filter(|file| file.package() == "flowyard.api.v1");
        messages.flat_map(|file| &mut file.message_type).find(|message| message.name() == name).unwrap()
    }

    #[test]
    fn an_unchanged_contract_and_an_added_field_are_no_breach() {
        assert_eq!(after(|_| {}), Vec::<String>::new());
        let added = after(|files| {
            let field = FieldDescriptorProto { name: Some("later".into()), number: Some(77), ..Default::default() };
            message(files, "Digest").field.push(field);
        });
        assert_eq!(added, Vec::<String>::new());
    }

    #[test]
    fn removing_renumbering_and_retyping_are_named() {
        let digest = "field flowyard.api.v1.Digest.length";
        let removed = after(|files| drop(message(files, "Digest").field.pop()));
        assert_eq!(removed, [format!("{digest} was removed")]);
        let renumbered = after(|files| message(files, "Digest").field[1].number = Some(3));
        assert_eq!(renumbered, [format!("{digest} was number 2 and is 3")]);
        let retyped = after(|files| {
            message(files, "Digest").field[1].set_type(prost_types::field_descriptor_proto::Type::Uint32);
        });
        assert_eq!(retyped, [format!("{digest} has another type")]);
        let freed = after(|files| message(files, "FanOut").field[0].oneof_index = None);
        assert_eq!(freed, ["field flowyard.api.v1.FanOut.single has another type"]);
    }

    #[test]
    fn a_lost_value_message_or_method_is_named() {
        let lost = after(|files| {
            for file in &mut files.file {
                file.enum_type.iter_mut().filter(|it| it.name() == "Blame").for_each(|it| drop(it.value.pop()));
                file.message_type.retain(|message| message.name() != "CancelResponse");
                for service in &mut file.service {
                    service.method.retain(|method| method.name() != "Why");
                }
            }
        });
        let expected = [
            "message flowyard.api.v1.CancelResponse was removed",
            "value flowyard.api.v1.Blame.BLAME_HARDWARE was removed",
            "method flowyard.api.v1.Flowyard/Why was removed",
        ];
        assert_eq!(lost, expected);
    }
}
