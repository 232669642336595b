//! The page that `distfun dashboard` serves and `distfun report` writes: one document, which asks for nothing else.

use data_encoding::BASE64;
use serde::Serialize;
use sha2::{Digest, Sha256};

const PAGE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/style.css");
const SCRIPT: &str = concat!(
    "\"use strict\";\n(() => {\n",
    include_str!("page/base.js"),
    include_str!("page/calls.js"),
    include_str!("page/tree.js"),
    include_str!("page/stream.js"),
    include_str!("page/tables.js"),
    include_str!("page/page.js"),
    "})();\n"
);

/// What the page is told about itself.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct About {
    /// `live`, `replay` or `report`.
    pub(crate) mode: &'static str,
    /// Of the command.
    pub(crate) version: &'static str,
    /// The logs, as they were named.
    pub(crate) logs: Vec<String>,
    /// How much faster than it happened time goes on; 0 where it does not.
    pub(crate) speed: f64,
    /// How much of the logs was read, until all of it was.
    pub(crate) share: Option<f64>,
    /// Whether nothing more will come.
    pub(crate) has_ended: bool,
    /// Chunks that the page keeps at most.
    pub(crate) chunks: usize,
}

/// The document, and the policy that lets it run what is in it and nothing else.
pub(crate) struct Document {
    pub(crate) html: String,
    pub(crate) policy: String,
}

/// With a picture, the page shows that; without, it asks the server that it is from.
///
/// # Errors
/// None but those of `picture`.
pub(crate) fn document(about: &About, picture: Option<&impl Serialize>) -> serde_json::Result<Document> {
    let hash = |text: &str| BASE64.encode(&Sha256::digest(text));
    let connect = if picture.is_some() { "" } else { "connect-src 'self'; " };
    // A policy within a document knows no ancestors.
    let within = format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; img-src data:; {connect}base-uri 'none'; \
         form-action 'none'",
        hash(SCRIPT),
        hash(STYLE)
    );
    let picture = picture.map_or(Ok("null".into()), embedded)?;
    let parts = [
        ("{policy}", within.as_str()),
        ("{style}", STYLE),
        ("{about}", &embedded(about)?),
        ("{picture}", &picture),
        ("{script}", SCRIPT),
    ];
    let (mut html, mut rest) = (String::new(), PAGE);
    for (mark, text) in parts {
        let (before, after) = rest.split_once(mark).expect("the page has each mark once, in this order");
        html = html + before + text;
        rest = after;
    }
    html += rest;
    Ok(Document { html, policy: within + "; frame-ancestors 'none'" })
}

/// JSON that no text within it can end: in strings, and nowhere else, JSON has `<`.
fn embedded(value: &impl Serialize) -> serde_json::Result<String> {
    Ok(serde_json::to_string(value)?.replace('<', "\\u003c"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about() -> About {
        About {
            mode: "report",
            version: "0",
            logs: vec!["</script><script>alert(1)</script> {picture} {script}".into()],
            speed: 1.0,
            share: None,
            has_ended: true,
            chunks: 1,
        }
    }

    #[test]
    fn no_text_breaks_out_of_the_data_and_marks_within_it_are_text() {
        let hostile = "</script><script>alert(1)</script><!-- <script {script} {style}";
        let html = document(&about(), Some(&hostile)).unwrap().html;
        assert_eq!(html.matches("</script").count(), 3, "two for data and one for the program");
        assert_eq!(html.matches("<script").count(), 3);
        let from = html.find("id=\"picture\">").unwrap() + "id=\"picture\">".len();
        let json = &html[from..from + html[from..].find("</script>").unwrap()];
        assert_eq!(serde_json::from_str::<String>(json).unwrap(), hostile);
    }

    #[test]
    fn the_page_names_nothing_that_it_would_have_to_ask_for() {
        let html = document(&about(), None::<&()>).unwrap().html;
        for word in
            ["http:", "https:", "src=", "@import", "url(", "innerHTML", "outerHTML", "insertAdjacentHTML", "eval("]
        {
            assert!(!html.contains(word), "{word}");
        }
        assert!(!SCRIPT.contains("</script") && !SCRIPT.contains("<!--") && !STYLE.contains("</style"));
        assert!(!html.contains("style=\""), "the policy does not allow it");
    }
}
