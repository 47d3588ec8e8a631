"""Poses of one object from one camera: ``ros2 launch pnp_ros pose.launch.py object:=... image:=... camera_info:=...``

``--show-args`` explains all: ``bag:=FOLDER`` plays a recording in place of a camera, ``record:=true`` makes one,
``fine_tune:=true versions:=FOLDER reference:=...`` adapts the networks to the camera while it works. Names that do not
begin with a slash are relative to ``namespace``: two robots run side by side, each in its own. ``/tf`` is common.
"""

import re
import runpy
from collections.abc import Iterator
from pathlib import Path

import yaml
from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch import LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    LogInfo,
    OpaqueFunction,
    RegisterEventHandler,
    SetEnvironmentVariable,
)
from launch.conditions import IfCondition
from launch.substitutions import (
    EnvironmentVariable,
    EqualsSubstitution,
    LaunchConfiguration,
    NotEqualsSubstitution,
    PathJoinSubstitution,
)
from launch_ros.actions import LifecycleNode, Node
from launch_ros.event_handlers import OnStateTransition
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare
from launch_ros.utilities import make_namespace_absolute, prefix_namespace

CONFIG = PathJoinSubstitution([FindPackageShare("pnp_ros"), "config"])
ARGUMENTS = [
    DeclareLaunchArgument("object", default_value="", description="Folder of the object package"),
    DeclareLaunchArgument(
        "objects", default_value="['']", description="Folders of several packages, as [a, b, c]; in place of object"
    ),
    DeclareLaunchArgument("max_instances", default_value="1", description="Instances of each object there may be"),
    DeclareLaunchArgument("namespace", default_value="", description="Of the nodes and of all relative names"),
    DeclareLaunchArgument("image", default_value="camera/image_raw", description="Topic of the images"),
    DeclareLaunchArgument("camera_info", default_value="camera/camera_info", description="Topic of the CameraInfo"),
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
    DeclareLaunchArgument(
        "bag",
        default_value="",
        description="Bag to play as soon as the estimator is active; use with use_sim_time:=true",
    ),
    DeclareLaunchArgument("record", default_value="false", description="Record images and poses with ros2 bag"),
    DeclareLaunchArgument(
        "collision_objects", default_value="false", description="Put the objects into MoveIt's planning scene"
    ),
    DeclareLaunchArgument(
        "planning_frame", default_value="", description="TF frame of the collision objects; empty: the camera's"
    ),
    DeclareLaunchArgument("rviz", default_value="false", description="Open RViz with our view"),
]
VIEWED = ("pose", "markers", "overlay")  # topics of the estimator in config/pose.rviz, there by their default names


def generate_launch_description() -> LaunchDescription:
    """The estimator and, if asked for, fine-tuning, a bag, a recorder and RViz."""
    value = LaunchConfiguration
    common = {
        "object": ParameterValue(value("object"), value_type=str),
        "versions": ParameterValue(value("versions"), value_type=str),
        "image_transport": value("image_transport"),
        "device": ParameterValue(value("device"), value_type=str),
        "rectified": ParameterValue(value("rectified"), value_type=bool),
        "use_sim_time": ParameterValue(value("use_sim_time"), value_type=bool),
    }
    camera = [("image", value("image")), ("camera_info", value("camera_info"))]
    estimator = LifecycleNode(
        package="pnp_ros",
        executable="pose_estimator_node",
        name=value("name"),
        namespace=value("namespace"),
        output="screen",
        parameters=[
            value("params_file"),
            {
                **common,
                "objects": ParameterValue(value("objects"), value_type=list[str]),
                "max_instances": ParameterValue(value("max_instances"), value_type=int),
                "object_frame": ParameterValue(value("object_frame"), value_type=str),
                "autostart": ParameterValue(value("autostart"), value_type=bool),
            },
        ],
        remappings=[*camera, ("fine_tuning/status", [value("fine_tuning_name"), "/status"])],
    )
    fine_tuning = Node(
        package="pnp_ros",
        executable="fine_tuning_node",
        name=value("fine_tuning_name"),
        namespace=value("namespace"),
        output="screen",
        parameters=[
            value("fine_tuning_params_file"),
            {**common, "reference": ParameterValue(value("reference"), value_type=str)},
        ],
        remappings=[*camera, ("pose_estimator/objects", [value("name"), "/objects"])],
        condition=IfCondition(value("fine_tune")),
    )
    play = ExecuteProcess(cmd=["ros2", "bag", "play", value("bag"), "--clock"], output="screen")
    play_when_active = RegisterEventHandler(
        OnStateTransition(target_lifecycle_node=estimator, goal_state="active", entities=[play], handle_once=True),
        condition=IfCondition(NotEqualsSubstitution(value("bag"), "")),
    )
    description = LaunchDescription(
        [
            *ARGUMENTS,
            OpaqueFunction(function=_check_files),
            _image_profile(),
            play_when_active,
            estimator,
            fine_tuning,
            OpaqueFunction(function=_recorder, condition=IfCondition(value("record"))),
            OpaqueFunction(function=_collision_objects, condition=IfCondition(value("collision_objects"))),
            OpaqueFunction(function=_view, condition=IfCondition(value("rviz"))),
        ]
    )
    checks = runpy.run_path(str(Path(__file__).with_name("checks.py")))
    description.entities.insert(0, checks["refuse_wrong"](__file__, description))
    return description


def _check_files(context: LaunchContext) -> None:
    """A node starts without its parameters where their file is missing, or is of other nodes alone."""
    value = context.launch_configurations
    used = {"params_file": "name"}
    if IfCondition(LaunchConfiguration("fine_tune")).evaluate(context):
        used["fine_tuning_params_file"] = "fine_tuning_name"
    for argument, name in used.items():
        path, node = Path(value[argument]), _full_name(context, value[name])
        if not path.is_file():
            raise RuntimeError(f"{argument}: no such file: {path}")
        try:
            told_of = list(_nodes_in(yaml.safe_load(path.read_text())))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise RuntimeError(f"{argument}: {path}: {error}") from error
        if told_of and not any(_pattern(each).fullmatch(node) for each in told_of):
            raise RuntimeError(f"{argument}: {path}: expected parameters of {node} or /**, got {', '.join(told_of)}")


def _nodes_in(content: object, namespace: str = "") -> Iterator[str]:
    """The full names of the nodes that a file of parameters is for; they may hold ``*`` and ``**``."""
    for key, value in content.items() if isinstance(content, dict) else ():
        name = f"{namespace}/{str(key).strip('/')}"
        if isinstance(value, dict) and "ros__parameters" in value:
            yield name
        else:
            yield from _nodes_in(value, name)


def _pattern(name: str) -> re.Pattern[str]:
    parts = {"**": "(/[^/]+)*", "*": "/[^/]+"}
    return re.compile("".join(parts.get(part, "/" + re.escape(part)) for part in name.split("/")[1:]))


def _full_name(context: LaunchContext, name: str) -> str:
    """Of a name that is relative to ``namespace``."""
    value = context.launch_configurations
    namespace = prefix_namespace(value.get("ros_namespace"), value["namespace"])
    return str(make_namespace_absolute(prefix_namespace(namespace, name)))


def _image_profile() -> SetEnvironmentVariable:
    """Images of all that is started from here on arrive (why: config/fastdds.xml), unless the user chose a profile."""
    chosen = [
        EnvironmentVariable(f"{name}_DEFAULT_PROFILES_FILE", default_value="") for name in ("FASTRTPS", "FASTDDS")
    ]
    return SetEnvironmentVariable(
        "FASTRTPS_DEFAULT_PROFILES_FILE",
        PathJoinSubstitution([CONFIG, "fastdds.xml"]),
        condition=IfCondition(EqualsSubstitution(chosen, "")),
    )


def _recorder(context: LaunchContext) -> list[ExecuteProcess]:
    """``ros2 bag record`` of full names: it has no namespace of its own."""
    value = context.launch_configurations
    image = value["image"] + ("/compressed" if value["image_transport"] == "compressed" else "")
    topics = [image, value["camera_info"], "/tf", "/tf_static", "/diagnostics", f"{value['fine_tuning_name']}/status"]
    topics += [f"{value['name']}/{topic}" for topic in ("pose", "objects", "correspondences")]
    full = [_full_name(context, topic) for topic in topics]
    command = ["ros2", "bag", "record", "--storage", "mcap", "--topics", *full]
    return [ExecuteProcess(cmd=command, output="screen")]


def _collision_objects(context: LaunchContext) -> list[Node | LogInfo]:
    """The objects as obstacles, where MoveIt's messages are installed."""
    try:
        get_package_prefix("moveit_msgs")
    except PackageNotFoundError:
        return [LogInfo(msg="moveit_msgs is not installed: no collision objects, all else runs")]
    value = LaunchConfiguration
    several = ParameterValue(value("objects"), value_type=list[str]).evaluate(context)
    folders = [folder for folder in (value("object").perform(context), *several) if folder]
    return [
        Node(
            package="pnp_ros",
            executable="collision_objects_node",
            namespace=value("namespace"),
            output="screen",
            parameters=[
                {
                    "objects": folders,
                    "fixed_frame": ParameterValue(value("planning_frame"), value_type=str),
                    "use_sim_time": ParameterValue(value("use_sim_time"), value_type=bool),
                }
            ],
            remappings=[("pose_estimator/objects", [value("name"), "/objects"])],
        )
    ]


def _view(context: LaunchContext) -> list[Node | LogInfo]:
    """RViz with our view, where it is installed."""
    try:
        get_package_prefix("rviz2")
    except PackageNotFoundError:
        return [LogInfo(msg="rviz2 is not installed: no view is opened, all else runs (rviz:=false says nothing)")]
    name, image = LaunchConfiguration("name"), LaunchConfiguration("image")
    return [
        Node(
            package="rviz2",
            executable="rviz2",
            namespace=LaunchConfiguration("namespace"),
            arguments=["-d", PathJoinSubstitution([CONFIG, "pose.rviz"])],
            remappings=[
                ("/camera/image_raw", image),
                *((f"/pose_estimator/{topic}", [name, f"/{topic}"]) for topic in VIEWED),
            ],
        )
    ]
