//! `highwater topics`.

use highwater_wire::ErrorCode;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::{
    BrokerId, CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, DescribeConfigsRequest,
    IncrementalAlterConfigsRequest, MetadataRequest, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use crate::Ended;
use crate::args::{TopicsArgs, TopicsCommand};
use crate::client::{Client, ClientError};

/// Why a command did not do what was asked.
enum Failure {
    /// There was no answer.
    Client(ClientError),
    /// The broker refused.
    Refused(String),
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Failure {
        Failure::Client(error)
    }
}

pub(crate) fn run(args: &TopicsArgs) -> Ended {
    let done = match &args.command {
        TopicsCommand::Create { at, name, partitions, replication_factor, config, if_not_exists } => {
            Client::connect(&at.bootstrap).map_err(Failure::from).and_then(|mut client| {
                create(&mut client, name, *partitions, *replication_factor, config, *if_not_exists)
            })
        }
        TopicsCommand::List { at } => Client::connect(&at.bootstrap).map_err(Failure::from).and_then(list),
        TopicsCommand::Describe { at, names } => {
            Client::connect(&at.bootstrap).map_err(Failure::from).and_then(|client| describe(client, names))
        }
        TopicsCommand::Delete { at, names } => Client::connect(&at.bootstrap)
            .map_err(Failure::from)
            .and_then(|mut client| delete(&mut client, names)),
        TopicsCommand::Alter { at, name, partitions, config, delete_config } => {
            Client::connect(&at.bootstrap)
                .map_err(Failure::from)
                .and_then(|mut client| alter(&mut client, name, *partitions, config, delete_config))
        }
    };
    match done {
        Ok(()) => Ended::Well,
        Err(Failure::Refused(why)) => {
            eprintln!("highwater: {why}");
            Ended::Badly
        }
        Err(Failure::Client(error)) => {
            eprintln!("highwater: {error}");
            Ended::NotRun
        }
    }
}

const TIMEOUT_MS: i32 = 25_000;
const TOPIC_RESOURCE: i8 = 2;

/// An answer's code and message as a refusal, unless it is none.
fn check(what: &str, code: i16, message: Option<&StrBytes>) -> Result<(), Failure> {
    if code == 0 {
        return Ok(());
    }
    let name =
        ErrorCode::from_code(code).map_or_else(|| format!("error {code}"), |known| known.name().to_owned());
    Err(Failure::Refused(match message {
        Some(message) => format!("{what}: {name}: {message}"),
        None => format!("{what}: {name}"),
    }))
}

fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

fn create(
    client: &mut Client,
    name: &str,
    partitions: Option<i32>,
    replication_factor: Option<i16>,
    config: &[(String, String)],
    if_not_exists: bool,
) -> Result<(), Failure> {
    let configs = config.iter().map(|(name, value)| {
        CreatableTopicConfig::default()
            .with_name(StrBytes::from_string(name.clone()))
            .with_value(Some(StrBytes::from_string(value.clone())))
    });
    let topic = CreatableTopic::default()
        .with_name(topic_name(name))
        .with_num_partitions(partitions.unwrap_or(-1))
        .with_replication_factor(replication_factor.unwrap_or(-1))
        .with_configs(configs.collect());
    let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(TIMEOUT_MS);
    let (answer, _) = client.call(&request, 7)?;
    for topic in &answer.topics {
        if if_not_exists && topic.error_code == ErrorCode::TopicAlreadyExists.code() {
            println!("topic {name} is there already");
            continue;
        }
        check(&format!("topic {name}"), topic.error_code, topic.error_message.as_ref())?;
        match topic.num_partitions {
            1 => println!("created topic {name} with 1 partition"),
            n => println!("created topic {name} with {n} partitions"),
        }
    }
    Ok(())
}

fn metadata(client: &mut Client, names: Option<&[String]>) -> Result<Vec<MetadataResponseTopic>, Failure> {
    let topics = names.map(|names| {
        names.iter().map(|name| MetadataRequestTopic::default().with_name(Some(topic_name(name)))).collect()
    });
    let request = MetadataRequest::default().with_topics(topics).with_allow_auto_topic_creation(false);
    let (mut answer, _) = client.call(&request, 12)?;
    answer.topics.sort_by(|a, b| a.name.as_deref().cmp(&b.name.as_deref()));
    Ok(answer.topics)
}

fn list(mut client: Client) -> Result<(), Failure> {
    for topic in metadata(&mut client, None)? {
        println!("{}", topic.name.map(|name| name.to_string()).unwrap_or_default());
    }
    Ok(())
}

fn describe(mut client: Client, names: &[String]) -> Result<(), Failure> {
    let topics = metadata(&mut client, (!names.is_empty()).then_some(names))?;
    for topic in &topics {
        let name = topic.name.as_ref().map(|name| name.to_string()).unwrap_or_default();
        check(&format!("topic {name}"), topic.error_code, None)?;
        let replicas = topic.partitions.first().map_or(0, |partition| partition.replica_nodes.len());
        println!(
            "{name}: id {}, partitions {}, replicas {replicas}",
            id(topic.topic_id),
            topic.partitions.len()
        );
        for (setting, value) in settings(&mut client, &name)? {
            println!("  {setting}={value}");
        }
        let mut partitions = topic.partitions.clone();
        partitions.sort_by_key(|partition| partition.partition_index);
        for partition in partitions {
            println!(
                "  partition {}: leader {} (epoch {}), replicas {}, in sync {}",
                partition.partition_index,
                partition.leader_id.0,
                partition.leader_epoch,
                numbers(&partition.replica_nodes),
                numbers(&partition.isr_nodes),
            );
        }
    }
    Ok(())
}

/// What was set on the topic itself.
fn settings(client: &mut Client, name: &str) -> Result<Vec<(String, String)>, Failure> {
    const SET_ON_TOPIC: i8 = 1;
    let resource = DescribeConfigsResource::default()
        .with_resource_type(TOPIC_RESOURCE)
        .with_resource_name(StrBytes::from_string(name.to_owned()))
        .with_configuration_keys(None);
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
    let (answer, _) = client.call(&request, 4)?;
    let mut found = Vec::new();
    for result in answer.results {
        check(&format!("settings of topic {name}"), result.error_code, result.error_message.as_ref())?;
        let set = result.configs.into_iter().filter(|config| config.config_source == SET_ON_TOPIC);
        found.extend(set.map(|c| (c.name.to_string(), c.value.map(|v| v.to_string()).unwrap_or_default())));
    }
    Ok(found)
}

fn delete(client: &mut Client, names: &[String]) -> Result<(), Failure> {
    let request = DeleteTopicsRequest::default()
        .with_topic_names(names.iter().map(|name| topic_name(name)).collect())
        .with_timeout_ms(TIMEOUT_MS);
    // The last version that names topics in a plain list.
    let (answer, _) = client.call(&request, 5)?;
    let mut first = Ok(());
    for result in &answer.responses {
        let name = result.name.as_deref().map(|name| name.to_string()).unwrap_or_default();
        match check(&format!("topic {name}"), result.error_code, result.error_message.as_ref()) {
            Ok(()) => println!("deleted topic {name}"),
            Err(failure) => first = first.and(Err(failure)),
        }
    }
    first
}

fn alter(
    client: &mut Client,
    name: &str,
    partitions: Option<i32>,
    config: &[(String, String)],
    delete_config: &[String],
) -> Result<(), Failure> {
    if partitions.is_none() && config.is_empty() && delete_config.is_empty() {
        let what = "nothing to alter: give --partitions, --config or --delete-config";
        return Err(Failure::Refused(what.to_owned()));
    }
    if !config.is_empty() || !delete_config.is_empty() {
        let setting =
            |name: &String| AlterableConfig::default().with_name(StrBytes::from_string(name.clone()));
        let set = config.iter().map(|(name, value)| {
            setting(name).with_config_operation(0).with_value(Some(StrBytes::from_string(value.clone())))
        });
        let deleted = delete_config.iter().map(|name| setting(name).with_config_operation(1));
        let resource = AlterConfigsResource::default()
            .with_resource_type(TOPIC_RESOURCE)
            .with_resource_name(StrBytes::from_string(name.to_owned()))
            .with_configs(set.chain(deleted).collect());
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
        let (answer, _) = client.call(&request, 1)?;
        for response in &answer.responses {
            check(&format!("topic {name}"), response.error_code, response.error_message.as_ref())?;
        }
        println!("altered the settings of topic {name}");
    }
    if let Some(count) = partitions {
        let topic = CreatePartitionsTopic::default()
            .with_name(topic_name(name))
            .with_count(count)
            .with_assignments(None);
        let request = CreatePartitionsRequest::default().with_topics(vec![topic]).with_timeout_ms(TIMEOUT_MS);
        let (answer, _) = client.call(&request, 3)?;
        for result in &answer.results {
            check(&format!("topic {name}"), result.error_code, result.error_message.as_ref())?;
        }
        println!("topic {name} has {count} partitions");
    }
    Ok(())
}

fn numbers(brokers: &[BrokerId]) -> String {
    let numbers: Vec<String> = brokers.iter().map(|broker| broker.0.to_string()).collect();
    numbers.join(",")
}

fn id(id: impl AsRef<[u8]>) -> String {
    let bytes: [u8; 16] = id.as_ref().try_into().unwrap_or_default();
    highwater_base::Uuid::from_bytes(bytes).to_string()
}
