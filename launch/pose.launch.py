"""Poses of one object from one camera: ``ros2 launch pnp_ros pose.launch.py object:=... image:=... camera_info:=...``

``--show-args`` explains all: ``bag:=FOLDER`` plays a recording in place of a camera, ``record:=true`` makes one,
``fine_tune:=true versions:=FOLDER reference:=...`` adapts the networks to the camera while it works.
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, NotEqualsSubstitution, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

CONFIG = PathJoinSubstitution([FindPackageShare("pnp_ros"), "config"])
ARGUMENTS = [
    DeclareLaunchArgument("object", description="Folder of the object package"),
    DeclareLaunchArgument("image", default_value="/camera/image_raw", description="Topic of the images"),
    DeclareLaunchArgument("camera_info", default_value="/camera/camera_info", description="Topic of the CameraInfo"),
    DeclareLaunchArgument(
        "image_transport",
        default_value="raw",
        choices=["raw", "compressed"],
        description="How the images arrive; compressed ones on IMAGE/compressed",
    ),
    DeclareLaunchArgument("rectified", default_value="false", description="The images are rectified: P holds, not K"),
    DeclareLaunchArgument("object_frame", default_value="", description="TF frame of the object; empty: its name"),
    DeclareLaunchArgument("device", default_value="cpu", description="Where the networks run: cpu, cuda, cuda:1, ..."),
    DeclareLaunchArgument("name", default_value="pose_estimator", description="Name of the node, one for each object"),
    DeclareLaunchArgument(
        "params_file",
        default_value=PathJoinSubstitution([CONFIG, "pose_estimator.yaml"]),
        description="Parameters of the node; the arguments above win over it",
    ),
    DeclareLaunchArgument("autostart", default_value="true", description="Activate at once, without a manager"),
    DeclareLaunchArgument("use_sim_time", default_value="false", description="Take the time from /clock"),
    DeclareLaunchArgument(
        "versions", default_value="", description="Folder of adapted weights; empty: the object package's own always"
    ),
    DeclareLaunchArgument("fine_tune", default_value="false", description="Adapt the weights; needs versions"),
    DeclareLaunchArgument(
        "reference",
        default_value="self",
        description="Where fine-tuning gets true poses from: self, tf:FRAME, topic:/NAME or board:FILE",
    ),
    DeclareLaunchArgument(
        "fine_tuning_params_file",
        default_value=PathJoinSubstitution([CONFIG, "fine_tuning.yaml"]),
        description="Parameters of the fine-tuning node; the arguments above win over it",
    ),
    DeclareLaunchArgument(
        "fine_tuning_name", default_value="fine_tuning", description="Name of that node, one for each object"
    ),
    DeclareLaunchArgument("bag", default_value="", description="Bag to play; use with use_sim_time:=true"),
    DeclareLaunchArgument("record", default_value="false", description="Record images and poses with ros2 bag"),
    DeclareLaunchArgument("rviz", default_value="false", description="Open RViz with our view"),
]


def generate_launch_description() -> LaunchDescription:
    """The estimator and, if asked for, fine-tuning, a bag, a recorder and RViz."""
    value = LaunchConfiguration
    common = {
        "object": value("object"),
        "versions": ParameterValue(value("versions"), value_type=str),
        "image_transport": value("image_transport"),
        "device": value("device"),
        "rectified": ParameterValue(value("rectified"), value_type=bool),
        "use_sim_time": ParameterValue(value("use_sim_time"), value_type=bool),
    }
    camera = [("image", value("image")), ("camera_info", value("camera_info"))]
    adaptation = ["/", value("fine_tuning_name"), "/status"]
    node_topics = [["/", value("name"), topic] for topic in ("/pose", "/objects", "/correspondences")]
    estimator = Node(
        package="pnp_ros",
        executable="pose_estimator_node",
        name=value("name"),
        output="screen",
        parameters=[
            value("params_file"),
            {
                **common,
                "object_frame": value("object_frame"),
                "autostart": ParameterValue(value("autostart"), value_type=bool),
            },
        ],
        remappings=[*camera, ("fine_tuning/status", adaptation)],
    )
    fine_tuning = Node(
        package="pnp_ros",
        executable="fine_tuning_node",
        name=value("fine_tuning_name"),
        output="screen",
        parameters=[
            value("fine_tuning_params_file"),
            {**common, "reference": ParameterValue(value("reference"), value_type=str)},
        ],
        remappings=[*camera, ("pose_estimator/objects", ["/", value("name"), "/objects"])],
        condition=IfCondition(value("fine_tune")),
    )
    play = ExecuteProcess(
        cmd=["ros2", "bag", "play", value("bag"), "--clock"],
        condition=IfCondition(NotEqualsSubstitution(value("bag"), "")),
        output="screen",
    )
    topics = [value("image"), value("camera_info"), "/tf", "/tf_static", "/diagnostics", adaptation, *node_topics]
    record = ExecuteProcess(
        cmd=["ros2", "bag", "record", "--storage", "mcap", "--topics", *topics],
        condition=IfCondition(value("record")),
        output="screen",
    )
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        arguments=["-d", PathJoinSubstitution([CONFIG, "pose.rviz"])],
        condition=IfCondition(value("rviz")),
    )
    return LaunchDescription([*ARGUMENTS, estimator, fine_tuning, play, record, rviz])
