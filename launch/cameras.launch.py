"""One pose from several cameras: ``ros2 launch pnp_ros cameras.launch.py object:=... images:="[/left/image_raw,
/right/image_raw]" fixed_frame:=cell``

An estimator for each topic of ``images``, in the topic's namespace (``/left/pose_estimator``), with the ``camera_info``
beside the topic, and ``pose_fusion``, which fuses all instances that they tell. TF must know where the cameras are in
``fixed_frame``.
"""

import runpy
from pathlib import Path

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, GroupAction, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node, SetParameter
from launch_ros.parameter_descriptions import ParameterValue

ARGUMENTS = [
    DeclareLaunchArgument("object", default_value="", description="Folder of the object package"),
    DeclareLaunchArgument(
        "objects", default_value="['']", description="Folders of several packages, as [a, b, c]; in place of object"
    ),
    DeclareLaunchArgument("max_instances", default_value="1", description="Instances of each object there may be"),
    DeclareLaunchArgument(
        "images", default_value="['']", description="Topics of the images, one a camera, as [/left/image_raw, ...]"
    ),
    DeclareLaunchArgument("fixed_frame", description="TF frame in which the cameras' places are known"),
    DeclareLaunchArgument("publish_tf", default_value="true", description="Send a transform of each fused object"),
    DeclareLaunchArgument("rectified", default_value="false", description="The images are rectified: P holds, not K"),
    DeclareLaunchArgument("device", default_value="cpu", description="Where the networks run: cpu, cuda, cuda:1, ..."),
    DeclareLaunchArgument("use_sim_time", default_value="false", description="Take the time from /clock"),
]
PASSED_ON = ("object", "objects", "max_instances", "rectified", "device", "use_sim_time")


def generate_launch_description() -> LaunchDescription:
    """The estimators and the fusion."""
    description = LaunchDescription([*ARGUMENTS, OpaqueFunction(function=_nodes)])
    checks = runpy.run_path(str(Path(__file__).with_name("checks.py")))
    description.entities.insert(0, checks["refuse_wrong"](__file__, description))
    return description


def _nodes(context: LaunchContext) -> list[GroupAction | Node]:
    value = LaunchConfiguration
    images = [topic for topic in ParameterValue(value("images"), value_type=list[str]).evaluate(context) if topic]
    folders = ParameterValue(value("objects"), value_type=list[str]).evaluate(context)
    cameras = [topic.rpartition("/")[0] for topic in images]
    if len(set(cameras)) < max(2, len(images)) or not all(cameras):
        raise RuntimeError(
            f"images: expected two topics or more, each in a namespace of its own, as [/left/image_raw, "
            f"/right/image_raw], got {images}"
        )
    fusion = Node(
        package="pnp_ros",
        executable="pose_fusion_node",
        name="pose_fusion",
        output="screen",
        parameters=[
            {
                "object_topics": [f"{camera}/pose_estimator/objects" for camera in cameras],
                "objects": [value("object").perform(context), *folders],
                "fixed_frame": ParameterValue(value("fixed_frame"), value_type=str),
                "publish_tf": ParameterValue(value("publish_tf"), value_type=bool),
                "use_sim_time": ParameterValue(value("use_sim_time"), value_type=bool),
            }
        ],
    )
    return [*(_estimator(image, camera) for image, camera in zip(images, cameras)), fusion]


def _estimator(image: str, camera: str) -> GroupAction:
    """Of one camera; the transforms of its objects would contradict the fused ones."""
    arguments = {
        "namespace": camera,
        "image": f"/{image.lstrip('/')}",
        "camera_info": f"/{camera.lstrip('/')}/camera_info",
        **{name: LaunchConfiguration(name) for name in PASSED_ON},
    }
    file = PythonLaunchDescriptionSource(str(Path(__file__).with_name("pose.launch.py")))
    include = IncludeLaunchDescription(file, launch_arguments=arguments.items())
    return GroupAction([SetParameter("publish_tf", False), include])
