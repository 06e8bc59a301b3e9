//! What tidy wants to know about one Rust file: its functions, its types, and which lines are tests.

use proc_macro2::LineColumn;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// One named item and the lines it spans.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) name: String,
    pub(super) line: usize,
    pub(super) lines: u64,
}

/// The items of one file.
#[derive(Default)]
pub(super) struct Source {
    pub(super) functions: Vec<Item>,
    pub(super) types: Vec<Item>,
    /// Tests that the test runner is told to leave out.
    pub(super) ignored: Vec<Item>,
    /// Modules compiled only for tests.
    pub(super) test_modules: Vec<Item>,
}

/// Parses `text` as a whole Rust file.
pub(super) fn parse(text: &str) -> syn::Result<Source> {
    let mut source = Source::default();
    source.visit_file(&syn::parse_file(text)?);
    Ok(source)
}

impl Source {
    fn function(&mut self, signature: &syn::Signature, attributes: &[syn::Attribute], end: LineColumn) {
        let item = item(&signature.ident, signature.span().start(), end);
        if attributes.iter().any(|attribute| attribute.path().is_ident("ignore")) {
            self.ignored.push(Item { name: item.name.clone(), ..item });
        }
        self.functions.push(item);
    }

    fn named_type(&mut self, name: &syn::Ident) {
        self.types.push(item(name, name.span().start(), name.span().end()));
    }
}

fn item(name: &syn::Ident, start: LineColumn, end: LineColumn) -> Item {
    Item { name: name.to_string(), line: start.line, lines: (end.line + 1 - start.line) as u64 }
}

fn only_for_tests(attributes: &[syn::Attribute]) -> bool {
    let is_test = |attribute: &&syn::Attribute| {
        attribute.path().is_ident("cfg") && attribute.parse_args::<syn::Ident>().is_ok_and(|name| name == "test")
    };
    attributes.iter().any(|attribute| is_test(&attribute))
}

impl<'ast> Visit<'ast> for Source {
    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.function(&function.sig, &function.attrs, function.block.span().end());
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.function(&function.sig, &function.attrs, function.block.span().end());
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        if let Some(block) = &function.default {
            self.function(&function.sig, &function.attrs, block.span().end());
        }
        visit::visit_trait_item_fn(self, function);
    }

    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if module.content.is_some() && only_for_tests(&module.attrs) {
            self.test_modules.push(item(&module.ident, module.span().start(), module.span().end()));
        }
        visit::visit_item_mod(self, module);
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.named_type(&item.ident);
        visit::visit_item_struct(self, item);
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        self.named_type(&item.ident);
        visit::visit_item_enum(self, item);
    }

    fn visit_item_union(&mut self, item: &'ast syn::ItemUnion) {
        self.named_type(&item.ident);
        visit::visit_item_union(self, item);
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.named_type(&item.ident);
        visit::visit_item_trait(self, item);
    }

    fn visit_item_type(&mut self, item: &'ast syn::ItemType) {
        self.named_type(&item.ident);
        visit::visit_item_type(self, item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_counted_from_its_signature_to_its_closing_brace() {
        let code = "/// Documented.\n#[inline]\npub fn long(\n    a: u8,\n) -> u8 {\n    a\n}\n";
        let source = parse(code).unwrap();
        assert_eq!(source.functions, [Item { name: "long".into(), line: 3, lines: 5 }]);
    }

    #[test]
    fn methods_and_functions_within_functions_are_seen() {
        let code = "impl T { fn a(&self) { fn b() {} } }\ntrait U { fn c() {} fn d(); }";
        let names: Vec<String> = parse(code).unwrap().functions.into_iter().map(|item| item.name).collect();
        assert_eq!(names, ["a", "b", "c"]);
    }

    #[test]
    fn inline_test_modules_are_told_from_others() {
        let source = parse("mod a { }\n#[cfg(test)]\nmod tests {\n}\n#[cfg(test)]\nmod elsewhere;").unwrap();
        assert_eq!(source.test_modules, [Item { name: "tests".into(), line: 2, lines: 3 }]);
    }
}
