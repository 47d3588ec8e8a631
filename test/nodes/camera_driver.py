"""A camera driver as any other package's: a plain publisher, started as a program, that knows nothing of pnp_ros.

``camera_driver.py WIDTH HEIGHT RATE COUNT`` publishes so many images, once somebody listens, and prints how many.
"""

import array
import sys
import time

import rclpy
from rclpy.qos import qos_profile_sensor_data
from rclpy.time import Time
from sensor_msgs.msg import CameraInfo, Image


def main() -> None:
    width, height, rate, count = map(int, sys.argv[1:])
    rclpy.init()
    node = rclpy.create_node("driver")
    images = node.create_publisher(Image, "/camera/image_raw", qos_profile_sensor_data)
    infos = node.create_publisher(CameraInfo, "/camera/camera_info", qos_profile_sensor_data)
    image = Image(width=width, height=height, step=3 * width, encoding="bgr8")
    image.data = array.array("B", bytes(3 * width * height))
    info = CameraInfo(width=width, height=height, distortion_model="plumb_bob", d=[0.0] * 5)
    info.k = [float(width), 0.0, width / 2, 0.0, float(width), height / 2, 0.0, 0.0, 1.0]
    image.header.frame_id = info.header.frame_id = "driver_optical_frame"
    while not (images.get_subscription_count() and infos.get_subscription_count()):
        time.sleep(0.05)
    time.sleep(1.0)  # the subscriber must know of us, too
    due, begin_ns = time.monotonic(), node.get_clock().now().nanoseconds
    for index in range(count):
        stamp_ns = begin_ns + index * 1_000_000_000 // rate  # the sensor's clock is never late
        image.header.stamp = info.header.stamp = Time(nanoseconds=stamp_ns).to_msg()
        images.publish(image)
        infos.publish(info)
        due += 1.0 / rate
        time.sleep(max(0.0, due - time.monotonic()))
    time.sleep(2.0)
    sys.stdout.write(f"{count}\n")
    rclpy.try_shutdown()


if __name__ == "__main__":
    main()
