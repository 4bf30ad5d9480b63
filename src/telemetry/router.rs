//! Several providers as one: each service is measured by its own.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::{FutureExt, future::BoxFuture};

use super::{Answer, Ask, Catalogued, Error, Past, PastAsk, Provider};
use crate::domain::{Absence, ServiceName, Text};

/// One provider for services that others measure, each by the one that is named last for it.
pub(super) fn by_service(
    providers: impl IntoIterator<Item = (Vec<ServiceName>, Arc<dyn Provider>)>,
) -> Arc<dyn Provider> {
    let each = |(services, provider): (Vec<ServiceName>, Arc<dyn Provider>)| {
        services.into_iter().map(move |service| (service, Arc::clone(&provider)))
    };
    Arc::new(Router(providers.into_iter().flat_map(each).collect()))
}

struct Router(BTreeMap<ServiceName, Arc<dyn Provider>>);

impl Router {
    fn of(&self, service: &ServiceName) -> Result<&Arc<dyn Provider>, Absence> {
        let unknown = || Error::Unavailable(Text::new(format!("service {service} is measured nowhere")));
        self.0.get(service).ok_or_else(|| unknown().into())
    }
}

impl Provider for Router {
    fn measure(&self, ask: Ask) -> BoxFuture<'_, Answer> {
        match self.of(&ask.service) {
            Ok(provider) => provider.measure(ask),
            Err(why) => std::future::ready(Answer::absent(&ask, &why)).boxed(),
        }
    }

    fn metrics(&self, service: &ServiceName) -> Result<Arc<Catalogued>, Absence> {
        self.of(service)?.metrics(service)
    }

    fn history(&self, ask: PastAsk) -> BoxFuture<'_, Result<Past, Absence>> {
        match self.of(&ask.service) {
            Ok(provider) => provider.history(ask),
            Err(why) => std::future::ready(Err(why)).boxed(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;

    /// Says its name in place of a catalogue.
    struct Named(&'static str);

    impl Provider for Named {
        fn measure(&self, ask: Ask) -> BoxFuture<'_, Answer> {
            std::future::ready(Answer::absent(&ask, &Absence::Unavailable(Text::new(self.0)))).boxed()
        }

        fn metrics(&self, _: &ServiceName) -> Result<Arc<Catalogued>, Absence> {
            Err(Absence::Unavailable(Text::new(self.0)))
        }
    }

    #[tokio::test]
    async fn each_service_is_measured_by_its_own_provider_and_a_strange_one_by_none() {
        let one = |name| Arc::new(Named(name)) as Arc<dyn Provider>;
        let router = by_service([
            (vec![ServiceName::new("shop"), ServiceName::new("till")], one("first")),
            (vec![ServiceName::new("cart")], one("second")),
        ]);
        for (service, says) in [("shop", "first"), ("till", "first"), ("cart", "second"), ("odd", "measured nowhere")] {
            let service = ServiceName::new(service);
            let why = router.metrics(&service).unwrap_err();
            assert!(why.to_string().contains(says), "{service}: {why}");
            let ask = Ask {
                service,
                control: None,
                canary: "abcdef0".parse().unwrap(),
                checks: Vec::new(),
                after: Timestamp::EPOCH,
                through: Timestamp::EPOCH,
                no_later_than: Timestamp::EPOCH,
            };
            assert_eq!(router.measure(ask).await.through, Timestamp::EPOCH);
        }
    }
}
