"""The demo in RViz: ``ros2 launch pnp_ros demo.launch.py`` shows a simulated camera and the poses of its object."""

import runpy
from pathlib import Path

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

SHARE = FindPackageShare("pnp_ros")
ARGUMENTS = [
    DeclareLaunchArgument(
        "object",
        default_value=PathJoinSubstitution([SHARE, "config", "objects", "demo"]),
        description="Folder of the object package to show and to find",
    ),
    DeclareLaunchArgument("objects", default_value="['']", description="Folders of several packages, beside object"),
    DeclareLaunchArgument("max_instances", default_value="1", description="Instances of each object"),
    DeclareLaunchArgument("namespace", default_value="", description="Of the nodes and of all relative names"),
    DeclareLaunchArgument("rate", default_value="15.0", description="Images a second"),
    DeclareLaunchArgument("seed", default_value="0", description="Of the object's path and the background"),
    DeclareLaunchArgument(
        "shift", default_value="-1", description="Seed of a camera and object that differ from what was trained for"
    ),
    DeclareLaunchArgument("fine_tune", default_value="false", description="Adapt the weights to it; needs versions"),
    DeclareLaunchArgument("versions", default_value="", description="Folder of the adapted weights"),
    DeclareLaunchArgument("reference", default_value="tf:object_truth", description="Where true poses come from"),
    DeclareLaunchArgument("device", default_value="cpu", description="Where the networks run: cpu, cuda, cuda:1, ..."),
    DeclareLaunchArgument("rviz", default_value="true", description="Open RViz with our view"),
]
PASSED_ON = ("namespace", "object", "objects", "max_instances", "device", "rviz", "fine_tune", "versions", "reference")


def generate_launch_description() -> LaunchDescription:
    """Simulated camera, estimator, RViz."""
    value = LaunchConfiguration
    camera = Node(
        package="pnp_ros",
        executable="simulated_camera_node",
        name="simulated_camera",
        namespace=PathJoinSubstitution([value("namespace"), "camera"]),
        output="screen",
        parameters=[
            {
                "object": ParameterValue(value("object"), value_type=str),
                "objects": ParameterValue(value("objects"), value_type=list[str]),
                "instances": ParameterValue(value("max_instances"), value_type=int),
                "rate": ParameterValue(value("rate"), value_type=float),
                "seed": ParameterValue(value("seed"), value_type=int),
                "shift": ParameterValue(value("shift"), value_type=int),
            }
        ],
    )
    estimator = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(Path(__file__).with_name("pose.launch.py"))),
        launch_arguments={name: value(name) for name in PASSED_ON}.items(),
    )
    # the estimator first: its launch file sets the camera's Fast DDS profile, too
    description = LaunchDescription([*ARGUMENTS, estimator, camera])
    checks = runpy.run_path(str(Path(__file__).with_name("checks.py")))
    description.entities.insert(0, checks["refuse_wrong"](__file__, description))
    return description
