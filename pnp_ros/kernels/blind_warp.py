# mypy: disable-error-code="assignment"
# ruff: noqa: UP018, RUF046 - Warp's dialect: float(x) and int(x) make variables
"""Random guesses at three matches, their poses by P3P, and how many object points then land on some image point.

A wrong pose is given up after a few points by Wald's sequential test (Matas and Chum, "Randomized RANSAC with
sequential probability ratio test", ICCV 2005): whether an object point lands on an image point is one look at a grid.
"""

import warp as wp

from pnp_ros.kernels.consensus_warp import intersect_cones, pose_of

vec7 = wp.types.vector(length=7, dtype=wp.float32)


@wp.struct
class Scene:
    """Two point sets without matches.

    bearings: (M) unit vectors of the image points; points: (N) object points, m; choices: (N, M) image points that an
    object point may match, of which the first ``choice_count`` (N) count; grid: whether an image point is near, over
    the plane of focal length one; origin, cells: of the grid, and cells a unit; fisheye: the plane is the equidistant
    one; gain, loss: of the log likelihood ratio for a hit and a miss; reject: where it falls below, give up;
    separation: smallest distance of two bearings of a guess; flatness: smallest area over squared perimeter of its
    triangle.
    """

    bearings: wp.array(dtype=wp.vec3)
    points: wp.array(dtype=wp.vec3)
    choices: wp.array2d(dtype=wp.int32)
    choice_count: wp.array(dtype=wp.int32)
    grid: wp.array2d(dtype=wp.uint8)
    origin: wp.vec2
    cells: float
    fisheye: bool
    gain: float
    loss: float
    reject: float
    separation: float
    flatness: float


@wp.func
def hit(scene: Scene, p: wp.vec3):
    """Whether a point of the camera frame lands on an image point."""
    radius = wp.sqrt(p[0] * p[0] + p[1] * p[1])
    scale = float(0.0)
    if scene.fisheye:
        scale = wp.atan2(radius, p[2]) / wp.max(radius, 1e-12)
    else:
        if p[2] < 1e-3 * radius or p[2] <= 0.0:
            return False
        scale = 1.0 / p[2]
    column = int(wp.floor((scale * p[0] - scene.origin[0]) * scene.cells))
    row = int(wp.floor((scale * p[1] - scene.origin[1]) * scene.cells))
    if column < 0 or row < 0 or column >= scene.grid.shape[1] or row >= scene.grid.shape[0]:
        return False
    return scene.grid[row, column] > wp.uint8(0)


@wp.func
def count_hits(scene: Scene, rotation: wp.mat33, translation: wp.vec3, first: int):
    """Object points that land on image points; -1 as soon as the pose is improbable."""
    count = scene.points.shape[0]
    hits = int(0)
    evidence = float(0.0)
    for i in range(count):
        if hit(scene, rotation * scene.points[(first + i) % count] + translation):
            hits += 1
            evidence += scene.gain
        else:
            evidence -= scene.loss
            if evidence < scene.reject:
                return -1
    return hits


@wp.func
def well_placed(scene: Scene, bearings: wp.mat33, points: wp.mat33):
    """Whether three matches determine a pose that noise does not throw far off."""
    m0, m1, m2 = wp.vec3(bearings[0]), wp.vec3(bearings[1]), wp.vec3(bearings[2])
    p0, p1, p2 = wp.vec3(points[0]), wp.vec3(points[1]), wp.vec3(points[2])
    least = wp.min(wp.length(m0 - m1), wp.min(wp.length(m1 - m2), wp.length(m2 - m0)))
    around = wp.length(p0 - p1) + wp.length(p1 - p2) + wp.length(p2 - p0)
    area = 0.5 * wp.length(wp.cross(p1 - p0, p2 - p0))
    return least > scene.separation and area > scene.flatness * around * around


@wp.func
def packed(q: wp.quat, t: wp.vec3):
    """A pose as seven numbers."""
    return vec7(q[0], q[1], q[2], q[3], t[0], t[1], t[2])


@wp.kernel(enable_backward=False)
def search(scene: Scene, guesses: int, seed: int, best_pose: wp.array(dtype=vec7), best_hits: wp.array(dtype=wp.int32)):
    """Each thread makes guesses; its best pose is left as quaternion x y z w and translation, with its hits."""
    thread = wp.tid()
    state = wp.rand_init(seed, thread)
    count = scene.points.shape[0]
    hits = int(0)
    bearings, points = wp.mat33(0.0), wp.mat33(0.0)
    for _ in range(guesses):
        a, b, c = wp.randi(state, 0, count), wp.randi(state, 0, count), wp.randi(state, 0, count)
        i = scene.choices[a, wp.randi(state, 0, scene.choice_count[a])]
        j = scene.choices[b, wp.randi(state, 0, scene.choice_count[b])]
        k = scene.choices[c, wp.randi(state, 0, scene.choice_count[c])]
        first = wp.randi(state, 0, count)
        bearings = wp.matrix_from_rows(scene.bearings[i], scene.bearings[j], scene.bearings[k])
        points = wp.matrix_from_rows(scene.points[a], scene.points[b], scene.points[c])
        if well_placed(scene, bearings, points):
            conics = intersect_cones(bearings, points)
            for which in range(4):
                pose, exists = pose_of(conics, which)
                if exists:
                    found = count_hits(scene, wp.quat_to_matrix(pose.rotation), pose.translation, first)
                    if found > hits:
                        hits = found
                        best_pose[thread] = packed(pose.rotation, pose.translation)
    best_hits[thread] = hits
