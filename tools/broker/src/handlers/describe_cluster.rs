//! DescribeCluster: the cluster's id, controller and brokers.

use highwater_control::BrokerState;
use highwater_wire::ErrorCode;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::{DescribeClusterRequest, DescribeClusterResponse};

use super::Ctx;
use super::codec::{CLUSTER_OPERATIONS, broker_id, text};
use super::gather::answer;
use crate::pending::Handled;

/// The endpoint types of the protocol.
const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

pub(super) fn handle(ctx: &dyn Ctx, version: i16, request: &DescribeClusterRequest) -> Handled {
    let mut response = DescribeClusterResponse::default().with_endpoint_type(BROKERS);
    let asked = if version >= 1 { request.endpoint_type } else { BROKERS };
    if asked != BROKERS {
        let (code, message) = if asked == CONTROLLERS {
            let message = "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER";
            (ErrorCode::MismatchedEndpointType, message.to_owned())
        } else {
            (
                ErrorCode::UnsupportedEndpointType,
                format!("Unsupported endpoint type {asked}: use 1 for brokers"),
            )
        };
        return answer(response.with_error_code(code.code()).with_error_message(Some(text(message))));
    }
    let fenced_too = version >= 2 && request.include_fenced_brokers;
    for broker in ctx.image().brokers() {
        let fenced = broker.state == BrokerState::Fenced;
        if !fenced || fenced_too {
            let described = DescribeClusterBroker::default().with_broker_id(broker_id(broker.id));
            let described = described.with_host(text(&*broker.host)).with_port(broker.port.into());
            response.brokers.push(described.with_rack(broker.rack.clone().map(text)).with_is_fenced(fenced));
        }
    }
    if request.include_cluster_authorized_operations {
        response.cluster_authorized_operations = CLUSTER_OPERATIONS;
    }
    let cluster_id = text(&*ctx.node().cluster_id);
    answer(response.with_cluster_id(cluster_id).with_controller_id(broker_id(ctx.node().id)))
}

#[cfg(test)]
mod tests {
    use super::super::fake::{Fake, body, header};
    use super::*;
    use highwater_wire::Api;
    use kafka_protocol::messages::ResponseKind;

    fn ask(version: i16, request: DescribeClusterRequest) -> DescribeClusterResponse {
        let handled = Fake::new().handle(&header(Api::DescribeCluster, version), request.into());
        let ResponseKind::DescribeCluster(response) = body(handled) else { panic!("another response") };
        response
    }

    #[test]
    fn the_controller_is_a_broker_of_the_same_answer() {
        for version in 0..=2 {
            let response = ask(version, DescribeClusterRequest::default().with_endpoint_type(1));
            assert_eq!(response.error_code, 0);
            assert_eq!(response.brokers.len(), 1);
            assert_eq!(response.brokers[0].broker_id, response.controller_id);
            assert_eq!((&*response.brokers[0].host, response.brokers[0].port), ("here", 9092));
        }
    }

    #[test]
    fn controllers_are_asked_for_elsewhere() {
        assert_eq!(ask(1, DescribeClusterRequest::default().with_endpoint_type(2)).error_code, 114);
        assert_eq!(ask(1, DescribeClusterRequest::default().with_endpoint_type(9)).error_code, 115);
    }
}
