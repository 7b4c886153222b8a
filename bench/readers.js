// One function a reader: it draws a file into a canvas that fills the window, once, from a camera that looks at the origin, on black.
// `from` is the camera's place in glTF's axes, +Y up and the front +Z, right-handed; `fov` the window's height in degrees. Each
// reader is told of no more than what its own documentation has users say; a `turn` is how the file is turned for that.
"use strict";

const frame = () => new Promise(requestAnimationFrame);

async function settle(draw, frames = 40) { // Sorting is done by workers that tell nobody when they are ready.
  for (let i = 0; i < frames; i++) {
    draw();
    await frame();
    await new Promise((done) => setTimeout(done, 15));
  }
}

function threeCamera(THREE, from, fov) {
  const camera = new THREE.PerspectiveCamera(fov, innerWidth / innerHeight, 0.01, 100);
  camera.position.set(...from);
  camera.lookAt(0, 0, 0);
  return camera;
}

const yDown = (suffix) => suffix !== ".spz" && !suffix.endsWith(".glb"); // Of all splat PLYs and what descends from them.

async function spark(url, suffix, from, fov) {
  const THREE = await import("three"), {SparkRenderer, SplatMesh} = await import("@sparkjsdev/spark");
  const renderer = new THREE.WebGLRenderer({antialias: false});
  renderer.setSize(innerWidth, innerHeight);
  document.body.append(renderer.domElement);
  const scene = new THREE.Scene(), camera = threeCamera(THREE, from, fov);
  scene.add(new SparkRenderer({renderer, preBlurAmount: 0.3, blurAmount: 0, maxStdDev: 3.33, sortRadial: false})); // As splats are trained.
  const mesh = new SplatMesh({url});
  if (yDown(suffix)) mesh.quaternion.set(1, 0, 0, 0);
  scene.add(mesh);
  await mesh.initialized;
  await settle(() => renderer.render(scene, camera));
}

async function three(url, suffix, from, fov) {
  const THREE = await import("three/webgpu"), {GaussianSplat} = await import("three/addons/objects/GaussianSplat.js");
  const renderer = new THREE.WebGPURenderer({antialias: false, forceWebGL: true});
  // Splats are of display colors, and blended in them.
  if (suffix !== ".mesh.glb") renderer.outputColorSpace = THREE.LinearSRGBColorSpace;
  renderer.setSize(innerWidth, innerHeight);
  document.body.append(renderer.domElement);
  await renderer.init();
  const scene = new THREE.Scene(), camera = threeCamera(THREE, from, fov);
  scene.background = new THREE.Color(0); // Over a transparent one, the canvas counts alpha twice.
  let object;
  if (suffix.endsWith(".glb")) {
    const {GLTFLoader} = await import("three/addons/loaders/GLTFLoader.js");
    const {GLTFGaussianSplatLoaderExtension} = await import("three/addons/loaders/GLTFGaussianSplatLoaderExtension.js");
    const loader = new GLTFLoader();
    loader.register((parser) => new GLTFGaussianSplatLoaderExtension(parser));
    object = (await loader.loadAsync(url)).scene;
  } else {
    const name = {".ply": "GaussianSplatPLYLoader", ".splat": "SPLATLoader", ".spz": "SPZLoader"}[suffix];
    if (!name) throw new Error("no loader");
    const Loader = (await import(`three/addons/loaders/${name}.js`))[name];
    object = new GaussianSplat(await new Loader().loadAsync(url));
  }
  if (yDown(suffix)) object.quaternion.set(1, 0, 0, 0);
  scene.add(object);
  await settle(() => renderer.render(scene, camera));
}

async function babylon(url, suffix, from, fov) {
  const {Engine} = await import("@babylonjs/core/Engines/engine.js"), {Scene} = await import("@babylonjs/core/scene.js");
  const {FreeCamera} = await import("@babylonjs/core/Cameras/freeCamera.js");
  const {Vector3} = await import("@babylonjs/core/Maths/math.vector.js"), {Color4} = await import("@babylonjs/core/Maths/math.color.js");
  const {AppendSceneAsync} = await import("@babylonjs/core/Loading/sceneLoader.js");
  await import("@babylonjs/core/Loading/loadingScreen.js");
  await import(suffix.endsWith(".glb") ? "@babylonjs/loaders/glTF/2.0/index.js" : "@babylonjs/loaders/SPLAT/index.js");
  const canvas = document.body.appendChild(document.createElement("canvas"));
  canvas.width = innerWidth, canvas.height = innerHeight;
  const engine = new Engine(canvas, false), scene = new Scene(engine);
  scene.clearColor = new Color4(0, 0, 0, 1);
  const fflate = await import("fflate");
  const flipY = suffix === ".spz"; // It takes the axes of a PLY for those of an SPZ; and then the scene has to be right-handed.
  if (flipY) scene.useRightHandedSystem = true;
  await AppendSceneAsync(url, scene, {pluginOptions: {splat: {fflate, flipY, spzLibraryUrl: `${location.origin}/node_modules/@adobe/spz/dist/spz.js`}}});
  // Left-handed by default: what faces us has the smaller Z, and of glTF the larger with X turned round.
  const [x, y, z] = from;
  const camera = new FreeCamera("camera", flipY ? new Vector3(x, y, z) : suffix.endsWith(".glb") ? new Vector3(-x, y, z) : new Vector3(x, y, -z), scene);
  camera.fov = fov * Math.PI / 180, camera.minZ = 0.01, camera.maxZ = 100;
  camera.setTarget(Vector3.Zero());
  scene.activeCamera = camera;
  await scene.whenReadyAsync();
  await settle(() => scene.render());
}

async function mkkellogg(url, suffix, from, fov) {
  const GS = await import("@mkkellogg/gaussian-splats-3d");
  const THREE = await import("three"), [x, y, z] = from, down = yDown(suffix);
  const viewer = new GS.Viewer({
    cameraUp: down ? [0, -1, 0] : [0, 1, 0], initialCameraPosition: down ? [x, -y, -z] : from, initialCameraLookAt: [0, 0, 0],
    sharedMemoryForWorkers: false, gpuAcceleratedSort: false, integerBasedSort: false, sphericalHarmonicsDegree: 2, sceneRevealMode: GS.SceneRevealMode.Instant,
    ignoreDevicePixelRatio: true, useBuiltInControls: false,
  });
  viewer.camera.fov = fov;
  viewer.camera.updateProjectionMatrix();
  const format = suffix === ".splat" ? GS.SceneFormat.Splat : suffix === ".spz" ? GS.SceneFormat.Spz : GS.SceneFormat.Ply;
  viewer.start();
  await viewer.addSplatScene(url, {format, showLoadingUI: false, splatAlphaRemovalThreshold: 0, progressiveLoad: false});
  await settle(() => {});
  await viewer.runSplatSort(true, true);
  await settle(() => {});
}

async function playcanvas(url, suffix, from, fov, large = false) {
  const pc = await import("playcanvas"), [x, y, z] = from;
  const canvas = document.body.appendChild(document.createElement("canvas"));
  const app = new pc.Application(canvas, {graphicsDeviceOptions: {antialias: false}});
  app.setCanvasFillMode(pc.FILLMODE_NONE, innerWidth, innerHeight);
  app.setCanvasResolution(pc.RESOLUTION_FIXED, innerWidth, innerHeight);
  app.start();
  if (large) app.scene.gsplat.dataFormat = pc.GSPLATDATA_LARGE; // Else scales have 8 bits in its work buffer, whatever the file has.
  const asset = new pc.Asset("asset", "gsplat", {url, filename: `a${suffix}`});
  app.assets.add(asset);
  await new Promise((done, fail) => { asset.on("load", done); asset.on("error", (e) => fail(new Error(e))); app.assets.load(asset); });
  const entity = new pc.Entity();
  entity.addComponent("gsplat", {asset});
  entity.setLocalEulerAngles(0, 0, 180); // As SuperSplat and all of its maker's viewers do.
  app.root.addChild(entity);
  const camera = new pc.Entity();
  camera.addComponent("camera", {clearColor: new pc.Color(0, 0, 0), fov, nearClip: 0.01, farClip: 100});
  camera.setPosition(-x, y, -z);
  camera.lookAt(0, 0, 0);
  app.root.addChild(camera);
  await settle(() => { app.renderNextFrame = true; });
}

const playcanvasLarge = (url, suffix, from, fov) => playcanvas(url, suffix, from, fov, true);

async function supersplat(url, suffix, from, fov) { // The viewer of superspl.at, and of the pages that SuperSplat exports.
  const {createViewer} = await import("@playcanvas/supersplat-viewer/viewer"), [x, y, z] = from;
  const {defaultSettings} = await import("@playcanvas/supersplat-viewer/settings");
  const style = document.createElement("link");
  style.rel = "stylesheet", style.href = "/node_modules/@playcanvas/supersplat-viewer/dist/viewer.css";
  await new Promise((done) => { style.onload = done; document.head.append(style); });
  const container = document.body.appendChild(document.createElement("div"));
  container.style.cssText = "position: fixed; inset: 0";
  const settings = defaultSettings("object");
  settings.background = {color: [0, 0, 0]};
  settings.cameras = [{initial: {position: [-x, y, -z], target: [0, 0, 0], fov}}];
  const viewer = await createViewer({
    container, settings, contentUrl: url, contentFilename: `a${suffix}`, ui: false, nofx: true, noanim: true, renderer: "webgl",
  });
  if (!viewer.state.loaded) await new Promise((done) => viewer.events.once("loaded:changed", done));
  await settle(() => { viewer.app.renderNextFrame = true; });
}

const asked = new URLSearchParams(location.search);
const readers = {spark, three, babylon, mkkellogg, playcanvas, playcanvasLarge, supersplat};
readers[asked.get("reader")](asked.get("url"), asked.get("suffix"), JSON.parse(asked.get("from")), Number(asked.get("fov")))
  .then(() => { window.told = "drawn"; }, (problem) => { window.told = `${problem?.message || problem}`.slice(0, 300); });
