//! How a model is reached, and what it may cost.

use std::time::Duration;

use secrecy::SecretString;

/// Whose form of the API it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// `POST {base_url}/chat/completions` with a bearer token, as OpenAI, vLLM, Ollama, OpenRouter and most others have it.
    OpenAi,
    /// Azure's: the model is a deployment in the path, the key a header of its own.
    Azure {
        /// The version of its API, such as `2024-10-21`.
        api_version: String,
    },
}

/// What tokens cost, in millionths of a dollar for each million tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Price {
    /// Tokens that go in.
    pub input: u64,
    /// Tokens that go in and were in the provider's cache.
    pub cached_input: u64,
    /// Tokens that come out.
    pub output: u64,
}

impl Price {
    /// Millionths of a dollar for so many tokens, of which `cached` are among those that go in. What is not whole is
    /// rounded up, so that nothing is free.
    pub fn of(&self, input: u64, cached: u64, output: u64) -> u64 {
        let parts =
            [(input.saturating_sub(cached), self.input), (cached.min(input), self.cached_input), (output, self.output)];
        let millionths = parts
            .iter()
            .fold(0_u128, |sum, &(tokens, price)| sum.saturating_add(u128::from(tokens) * u128::from(price)));
        u64::try_from(millionths.div_ceil(1_000_000)).unwrap_or(u64::MAX)
    }
}

/// The limits of one run: one planning, one advice, one explanation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most answers of the model in a planning.
    pub planner_turns_max: u32,
    /// Most answers of the model in an advice.
    pub advisor_turns_max: u32,
    /// Most calls of tools in a run.
    pub tool_calls_max: u32,
    /// Most answers with wrong calls, or with words in place of calls, that are given back to be mended.
    pub repairs_max: u32,
    /// Most tokens of one answer.
    pub output_tokens_max: u32,
    /// Most tokens of a run, in and out.
    pub run_tokens_max: u64,
    /// Most bytes of the diff in the first message; more can be asked for by tools.
    pub diff_bytes_max: usize,
    /// Longest time of a planning.
    pub plan_within: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            planner_turns_max: 6,
            advisor_turns_max: 2,
            tool_calls_max: 20,
            repairs_max: 2,
            output_tokens_max: 4_000,
            run_tokens_max: 200_000,
            diff_bytes_max: 48_000,
            plan_within: Duration::from_secs(180),
        }
    }
}

/// What runs may use together. What is reserved for one that is under way counts until it is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budgets {
    /// Most tokens for one pull request, all its runs together.
    pub pull_request_tokens_max: u64,
    /// Most tokens in a day, by UTC.
    pub day_tokens_max: u64,
    /// Most millionths of a dollar for one pull request; needs a price.
    pub pull_request_micro_dollars_max: Option<u64>,
    /// Most millionths of a dollar in a day, by UTC; needs a price.
    pub day_micro_dollars_max: Option<u64>,
}

impl Default for Budgets {
    fn default() -> Self {
        Self {
            pull_request_tokens_max: 400_000,
            day_tokens_max: 10_000_000,
            pull_request_micro_dollars_max: None,
            day_micro_dollars_max: None,
        }
    }
}

/// How a model is reached, and what it may cost.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whose form of the API it is.
    pub flavour: Flavour,
    /// The API's root, such as `https://api.openai.com/v1`, without a slash at its end. HTTPS where a key is sent, but for
    /// a loopback address.
    pub base_url: String,
    /// The model's name; with Azure the deployment's.
    pub model: String,
    /// What is shown as a key; none for servers that want none.
    pub key: Option<SecretString>,
    /// Longest time of one attempt at one call.
    pub timeout: Duration,
    /// Most attempts at one call, the first included.
    pub attempts_max: u32,
    /// What tokens cost.
    pub price: Option<Price>,
    /// The limits of one run.
    pub limits: Limits,
    /// What runs may use together.
    pub budgets: Budgets,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_cost_by_kind_and_never_nothing() {
        // 2.50, 1.25 and 10 dollars for a million.
        let price = Price { input: 2_500_000, cached_input: 1_250_000, output: 10_000_000 };
        assert_eq!(price.of(1_000_000, 0, 0), 2_500_000);
        assert_eq!(price.of(1_000, 400, 100), 1_500 + 500 + 1_000);
        assert_eq!(price.of(5, 9, 0), 7, "6.25: no more is cached than went in, and what is not whole is rounded up");
        assert_eq!(price.of(0, 0, 0), 0);
        assert_eq!(price.of(u64::MAX, 0, u64::MAX), u64::MAX);
    }
}
