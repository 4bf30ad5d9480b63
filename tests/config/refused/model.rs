//! What is told of the model, and of what a service asks of it.

use super::{Refused, check};

const MODEL: &[Refused] = &[
    Refused {
        replaced: "#top",
        by: "[model]",
        told: &[
            r#"model.name: is missing; write the model's name, such as "gpt-5-mini" (line 1)"#,
            r#"model.base_url: is missing; write the API's root, such as "https://api.openai.com/v1" or "http://127.0.0.1:11434/v1" (line 1)"#,
        ],
    },
    Refused {
        replaced: "#top",
        by: r#"model = { name = "a model", base_url = "ftp://x/v1" }"#,
        told: &[
            r#"model.name: "a model" is no name of a model; write a name without blanks, such as "gpt-5-mini" of at most 200 bytes (line 1)"#,
            r#"model.base_url: is no web address; write the API's root, such as "https://api.openai.com/v1" (line 1)"#,
        ],
    },
    Refused {
        replaced: "#top",
        by: r#"model = { name = "m", base_url = "http://models.example/v1", key = { env = "A_TOKEN" } }"#,
        told: &["model.base_url: would send the key in the open; write an https address, or a loopback one (line 1)"],
    },
    Refused {
        replaced: "#top",
        by: r#"model = { name = "m", base_url = "https://user:word@models.example/v1" }"#,
        told: &[
            r#"model.base_url: is no web address; write the API's root, such as "https://api.openai.com/v1" (line 1)"#,
        ],
    },
    Refused {
        replaced: "#top",
        by: r#"model = { name = "m", base_url = "https://x.example/v1?a=b" }"#,
        told: &[
            r#"model.base_url: goes on after the path; write the API's root, such as "https://api.openai.com/v1" (line 1)"#,
        ],
    },
    Refused {
        replaced: "#top",
        by: r#"model = { name = "m", base_url = "https://x.example/v1/chat/completions/" }"#,
        told: &[
            "model.base_url: ends in /chat/completions, which is added by itself; write what stands before (line 1)",
        ],
    },
    Refused {
        replaced: "#top",
        by: r#"model = { name = "m", base_url = "https://x.example/v1", key = "sk-abc" }"#,
        told: &[r#"model.key: holds a secret in the open; write { env = "NAME" } or { file = "path" } (line 1)"#],
    },
    Refused {
        replaced: "#top",
        by: r#"model = { name = "m", base_url = "https://x.example/v1", api_version = "2024-10-21" }"#,
        told: &[
            r#"model.api_version: belongs to flavour "azure", not to "openai"; remove it, or write the other flavour (line 1)"#,
        ],
    },
    Refused {
        replaced: "#top",
        by: r#"model = { name = "m", base_url = "https://x.example", flavour = "azure" }"#,
        told: &[r#"model.api_version: is missing; write a version such as "2024-10-21" (line 1)"#],
    },
    Refused {
        replaced: "#top",
        by: r#"model = { name = "m", base_url = "https://x.example", flavour = "azure", api_version = "v 1" }"#,
        told: &[
            r#"model.api_version: "v 1" is no version of Azure's API; write a version such as "2024-10-21" of at most 40 bytes (line 1)"#,
            r#"model.key: is missing; write { env = "NAME" } or { file = "path" }, for Azure wants a key (line 1)"#,
        ],
    },
    Refused {
        replaced: "#top",
        by: r#"model = { name = "m", base_url = "https://x.example", flavour = "anthropic" }"#,
        told: &[r#"model.flavour: "anthropic" is not a word for this; write one of openai, azure (line 1)"#],
    },
    Refused {
        replaced: "#top",
        by: r#"[model]
name = "m"
base_url = "https://x.example"
timeout = "11m"
attempts_max = 11
plan_within = "4s""#,
        told: &[
            "model.timeout: 11m is too long; write 1s to 10m (line 4)",
            "model.attempts_max: 11 is too many; write 1 to 10 (line 5)",
            "model.plan_within: 4s is too short; write 5s to 30m (line 6)",
        ],
    },
    Refused {
        replaced: "#top",
        by: r#"model = { name = "m", base_url = "https://x.example", plan_within = "59s" }"#,
        told: &[
            "model.plan_within: 59s is over before one answer may be, 1m; write a longer one, or a shorter timeout (line 1)",
        ],
    },
    Refused {
        replaced: "#top",
        by: r#"[model]
name = "m"
base_url = "https://x.example"
price = { input = -1, cached_input = 10001 }"#,
        told: &[
            "model.price.input: -1 is too little; write dollars, 0 to 10000 (line 4)",
            "model.price.output: is missing; write dollars for a million tokens, such as 2.5 (line 4)",
            "model.price.cached_input: 10001 is too much; write dollars, 0 to 10000 (line 4)",
        ],
    },
    Refused {
        replaced: "#top",
        by: r#"[model]
name = "m"
base_url = "https://x.example"
price = { input = 1, cached_input = 2, output = 3 }"#,
        told: &[
            "model.price.cached_input: is dearer than what is not in the cache; write at most the price of input (line 4)",
        ],
    },
    Refused {
        replaced: "#top",
        by: r#"[model]
name = "m"
base_url = "https://x.example"
budget = { day_dollars_max = 5, pull_request_tokens_max = 999 }"#,
        told: &[
            "model.budget.day_dollars_max: bounds nothing, for there is no price; write model.price too, or remove it (line 4)",
            "model.budget.pull_request_tokens_max: 999 is too few; write 1000 to 1000000000 (line 4)",
        ],
    },
    Refused {
        replaced: "#top",
        by: r#"[model]
name = "m"
base_url = "https://x.example"
limits = { planner_turns_max = 0, tool_calls_max = 101, output_tokens_max = 2000, run_tokens_max = 2000 }"#,
        told: &[
            "model.limits.planner_turns_max: 0 is too few; write 1 to 20 (line 4)",
            "model.limits.tool_calls_max: 101 is too many; write 1 to 100 (line 4)",
        ],
    },
    Refused {
        replaced: "#top",
        by: r#"[model]
name = "m"
base_url = "https://x.example"
limits = { output_tokens_max = 2000, run_tokens_max = 2000 }"#,
        told: &[
            "model.limits.run_tokens_max: 2000 is used up by one answer of 2000; write several times output_tokens_max (line 4)",
        ],
    },
];

const ASKED_OF_IT: &[Refused] = &[
    Refused {
        replaced: "#service",
        by: "model = { advises = true }",
        told: &["services.shop.model: there is no model to ask; add [model], or remove it (line 4)"],
    },
    Refused {
        replaced: "#top\n[services.shop]",
        by: r#"model = { name = "m", base_url = "https://x.example" }
[services.shop]
model = { may = "break_ties" }"#,
        told: &[
            r#"services.shop.model.may: "break_ties" says what advice may do, and none is asked for; write advises = true too, or remove it (line 3)"#,
        ],
    },
    Refused {
        replaced: "#top\n[services.shop]",
        by: r#"model = { name = "m", base_url = "https://x.example" }
[services.shop]
alpha = 0.05
model = { advises = true }"#,
        told: &[
            "services.shop.model.lean_alpha: 0.05 is not above alpha, 0.05: advice would count no sooner than proof; write a larger one, or a smaller alpha (line 4)",
        ],
    },
    Refused {
        replaced: "#top\n[services.shop]",
        by: r#"model = { name = "m", base_url = "https://x.example" }
[services.shop]
model = { lean_alpha = 0.6, advise_within = "0s", may = "promote" }"#,
        told: &[
            r#"services.shop.model.may: "promote" is not a word for this; write one of hold, break_ties (line 3)"#,
            "services.shop.model.lean_alpha: 0.6 is no chance that a harmless check leans; write a number above alpha, at most 0.5 (line 3)",
            "services.shop.model.advise_within: 0s is too short; write 1s to 10m (line 3)",
        ],
    },
    Refused {
        replaced: "#service",
        by: "risk_bake = { medium = 0.5, high = 21 }",
        told: &[
            "services.shop.risk_bake.medium: 0.5 times as long is no longer bake time; write a number from 1 to 20 (line 4)",
            "services.shop.risk_bake.high: 21 times as long is no longer bake time; write a number from 1 to 20 (line 4)",
        ],
    },
    Refused {
        replaced: "#service",
        by: "risk_bake = { medium = 3, high = 2 }",
        told: &[
            "services.shop.risk_bake.high: 2 bakes a change of high risk shorter than one of medium risk, 3; write a larger one (line 4)",
        ],
    },
];

#[test]
fn what_is_wrong_with_the_model_is_told() {
    check(MODEL);
}

#[test]
fn what_is_wrong_with_what_a_service_asks_of_it_is_told() {
    check(ASKED_OF_IT);
}
