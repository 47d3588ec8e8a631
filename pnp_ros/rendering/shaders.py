"""What the renderer's context calculates for each vertex and pixel (GLSL 3.30)."""

from __future__ import annotations

from pnp_ros.rendering.lighting import MAX_LIGHTS

VERTEX_SHADER = """
#version 330
uniform mat4 T_camera_object;
uniform mat4 projection;
in vec3 position; in vec3 normal; in vec2 uv; in vec3 color; in vec3 edges;
out vec3 object_point; out vec3 camera_point; out vec3 camera_normal; out vec2 texture_uv; out vec3 vertex_color;
out vec3 edge_distances;
void main() {
    vec4 p = T_camera_object * vec4(position, 1.0);
    object_point = position; camera_point = p.xyz; camera_normal = mat3(T_camera_object) * normal;
    texture_uv = uv; vertex_color = color; edge_distances = edges;
    gl_Position = projection * p;
}
"""
# colours are squared and rooted for the camera's response curve: nearly sRGB, and much cheaper than pow()
COLOR_SHADER = """
#version 330
uniform sampler2D image;
uniform vec3 sky; uniform vec3 ground; uniform vec3 up;
uniform int num_lights; uniform vec4 light_vector[MAX_LIGHTS]; uniform vec3 light_color[MAX_LIGHTS];
uniform float specular; uniform float shininess; uniform float exposure;
uniform float mirror; uniform float metal; uniform vec3 room; uniform float dust; uniform float wear; uniform vec3 bare;
in vec3 object_point; in vec3 camera_point; in vec3 camera_normal; in vec2 texture_uv; in vec3 vertex_color;
in vec3 edge_distances;
out vec4 rgba;
void main() {
    vec3 n = normalize(camera_normal), view = -normalize(camera_point);
    if (dot(n, view) < 0.0) n = -n;
    vec3 albedo = texture(image, texture_uv).rgb * vertex_color;
    vec3 base = albedo * albedo;
    if (wear > 0.0) {
        float uneven = 1.0 + 0.7 * sin(dot(object_point, vec3(0.9, 1.7, 1.3)) / wear * 0.4);
        float near = min(min(edge_distances.x, edge_distances.y), edge_distances.z);
        base = mix(bare, base, smoothstep(0.5, 1.0, near / (wear * uneven)));
    }
    if (dust > 0.0) base = mix(base, vec3(0.35, 0.33, 0.3), dust * max(dot(n, up), 0.0));
    vec3 diffuse = mix(ground, sky, 0.5 + 0.5 * dot(n, up)), highlight = vec3(0.0);
    for (int i = 0; i < num_lights; ++i) {
        vec3 l = normalize(light_vector[i].xyz - light_vector[i].w * camera_point);
        float facing = max(dot(n, l), 0.0);
        diffuse += facing * light_color[i];
        if (specular > 0.0 && facing > 0.0)
            highlight += specular * pow(max(dot(n, normalize(l + view)), 0.0), shininess) * light_color[i];
    }
    vec3 light = base * diffuse;
    if (mirror > 0.0) {  // the room has a sharp horizon and waves of light and dark; Schlick (1994) for the share
        vec3 r = reflect(-view, n);
        vec3 seen = mix(ground, sky, smoothstep(-0.1, 0.1, dot(r, up))) * (1.0 + 0.6 * sin(dot(r, room)));
        float head_on = 1.0 - max(dot(n, view), 0.0), grazing = head_on * head_on * head_on * head_on * head_on;
        light = mix(light, seen * mix(vec3(1.0), base, metal), mirror + (1.0 - mirror) * grazing);
    }
    rgba = vec4(sqrt(clamp(exposure * (light + highlight), 0.0, 1.0)), 1.0);
}
""".replace("MAX_LIGHTS", str(MAX_LIGHTS))
GEOMETRY_SHADER = """
#version 330
uniform float item;
in vec3 object_point; in vec3 camera_point;
layout(location = 0) out vec4 point_and_depth;
layout(location = 1) out float item_index;
void main() { point_and_depth = vec4(object_point, camera_point.z); item_index = item; }
"""
