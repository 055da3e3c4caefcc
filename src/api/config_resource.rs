//! Kafka's numbers of the things that have configs (`ConfigResource.Type`).

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Topic,
    Broker,
    BrokerLogger,
    ClientMetrics,
    Group,
}

impl Kind {
    pub fn of(number: i8) -> Option<Kind> {
        match number {
            2 => Some(Kind::Topic),
            4 => Some(Kind::Broker),
            8 => Some(Kind::BrokerLogger),
            16 => Some(Kind::ClientMetrics),
            32 => Some(Kind::Group),
            _ => None,
        }
    }

    pub fn number(self) -> i8 {
        match self {
            Kind::Topic => 2,
            Kind::Broker => 4,
            Kind::BrokerLogger => 8,
            Kind::ClientMetrics => 16,
            Kind::Group => 32,
        }
    }
}
