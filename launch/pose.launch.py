"""Poses of one object from one camera: ``ros2 launch pnp_ros pose.launch.py object:=... image:=... camera_info:=...``

``--show-args`` explains all: ``bag:=FOLDER`` plays a recording in place of a camera, ``record:=true`` makes one.
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
    DeclareLaunchArgument("image", default_value="/camera/image_raw", description="Topic of the pictures"),
    DeclareLaunchArgument("camera_info", default_value="/camera/camera_info", description="Topic of the CameraInfo"),
    DeclareLaunchArgument(
        "image_transport",
        default_value="raw",
        choices=["raw", "compressed"],
        description="How the pictures arrive; compressed ones on IMAGE/compressed",
    ),
    DeclareLaunchArgument("rectified", default_value="false", description="The pictures are rectified: P holds, not K"),
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
    DeclareLaunchArgument("bag", default_value="", description="Bag to play; use with use_sim_time:=true"),
    DeclareLaunchArgument("record", default_value="false", description="Record pictures and poses with ros2 bag"),
    DeclareLaunchArgument("rviz", default_value="false", description="Open RViz with our view"),
]


def generate_launch_description() -> LaunchDescription:
    """The estimator and, if asked for, a bag, a recorder and RViz."""
    value = LaunchConfiguration
    node_topics = [["/", value("name"), topic] for topic in ("/pose", "/objects", "/correspondences")]
    estimator = Node(
        package="pnp_ros",
        executable="pose_estimator_node",
        name=value("name"),
        output="screen",
        parameters=[
            value("params_file"),
            {
                "object": value("object"),
                "image_transport": value("image_transport"),
                "object_frame": value("object_frame"),
                "device": value("device"),
                "rectified": ParameterValue(value("rectified"), value_type=bool),
                "autostart": ParameterValue(value("autostart"), value_type=bool),
                "use_sim_time": ParameterValue(value("use_sim_time"), value_type=bool),
            },
        ],
        remappings=[("image", value("image")), ("camera_info", value("camera_info"))],
    )
    play = ExecuteProcess(
        cmd=["ros2", "bag", "play", value("bag"), "--clock"],
        condition=IfCondition(NotEqualsSubstitution(value("bag"), "")),
        output="screen",
    )
    topics = [value("image"), value("camera_info"), "/tf", "/tf_static", "/diagnostics", *node_topics]
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
    return LaunchDescription([*ARGUMENTS, estimator, play, record, rviz])
