package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/cairn-build/cairn/cmd/cairn/podtest"
	"github.com/cairn-build/cairn/registry/registrytest"
)

// kanikoLab has Cairn's own image, unpacked, and registries for jobs that were written for
// kaniko.
type kanikoLab struct {
	hub, registry string // addresses; registry wants the user me with the password open-sesame
	tree          map[string]string
	config        map[string]imageConfig // of the targets cairn and debug
	source        string                 // a context
	docker        string                 // a directory with config.json
}

type imageConfig struct {
	Env        []string
	Entrypoint []string
	WorkingDir string
}

// newKanikoLab builds the image of the example with its Dockerfile.
func newKanikoLab(t *testing.T) *kanikoLab {
	t.Helper()
	if reason := podtest.Missing("runc"); reason != "" {
		t.Skip(reason)
	}
	if _, err := os.Stat(gvisorProgram()); err != nil {
		t.Skipf("%v: make build makes it", err)
	}
	l := &kanikoLab{hub: newHub(t), tree: map[string]string{}, config: map[string]imageConfig{}, source: t.TempDir(), docker: t.TempDir()}
	s := httptest.NewServer(registrytest.Handler(t, registrytest.Basic("me", "open-sesame")))
	t.Cleanup(s.Close)
	l.registry = strings.TrimPrefix(s.URL, "http://")
	registrytest.WriteConfig(t, l.docker, l.registry, "me", "open-sesame")
	self, err := os.Executable() // which is cairn, when called so
	if err != nil {
		t.Fatal(err)
	}
	work := t.TempDir()
	if err := os.CopyFS(work, os.DirFS("../../examples/cairn-image")); err != nil {
		t.Fatal(err)
	}
	for name, from := range map[string]string{
		"cairn": self, "ca-certificates.crt": "/etc/ssl/certs/ca-certificates.crt",
		"cairn-linux-" + runtime.GOARCH: self, "cairn-gvisor-linux-" + runtime.GOARCH: gvisorProgram(),
	} {
		link := os.Link(from, filepath.Join(work, name))
		if link != nil {
			copyTo(t, from, filepath.Join(work, name))
		}
	}
	for _, target := range []string{"cairn", "debug"} {
		l.tree[target] = t.TempDir()
		l.build(t, work, target)
	}
	dockerfile := "FROM busybox\nARG V=1\nRUN test \"$(id -u)\" = 0 && echo run-$V > /made && cat /made\nCOPY . /src\nRUN rm /src/unwanted\n"
	for name, text := range map[string]string{"Dockerfile": dockerfile, "unwanted": "x", "file": "y"} {
		if err := os.WriteFile(filepath.Join(l.source, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

func copyTo(t *testing.T, from, to string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, text, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// build builds a target of the image and unpacks it.
func (l *kanikoLab) build(t *testing.T, work, target string) {
	t.Helper()
	cairn := func(args ...string) []byte {
		c := exec.Command(filepath.Join(work, "cairn"), append([]string{"--root=" + filepath.Join(work, "..", "store")}, args...)...)
		c.Env = append(os.Environ(), "CAIRN_REGISTRY_MIRROR="+l.hub, "BUILDKIT_PROGRESS=plain")
		var log bytes.Buffer
		c.Stderr = &log
		out, err := c.Output()
		if err != nil {
			t.Fatalf("%v: %v\n%s", c, err, &log)
		}
		return out
	}
	cairn("build", "--target="+target, "--build-context=busybox:musl=docker-image://busybox", "-t", "image:"+target, "-o", "type=image", "-o", "type=local,dest="+l.tree[target], work)
	var image struct{ Config imageConfig }
	if err := json.Unmarshal(cairn("inspect", "--format=config", "image:"+target), &image); err != nil {
		t.Fatal(err)
	}
	l.config[target] = image.Config
}

// pod returns a pod with an image. The source is a copy of its own, at a path that all users
// of the pod may write to.
func (l *kanikoLab) pod(t *testing.T, profile podtest.Profile, image, at string, env ...string) podtest.Pod {
	t.Helper()
	dir := t.TempDir()
	if err := errors.Join(os.CopyFS(dir, os.DirFS(l.source)), os.Chmod(dir, 0o777)); err != nil {
		t.Fatal(err)
	}
	return podtest.Pod{
		Profile: profile, Tree: l.tree[image], Dir: at, Volumes: []podtest.Volume{{Host: dir, Path: at}},
		Env: slices.Concat(l.config[image].Env, []string{"KANIKO_REGISTRY_MIRROR=" + l.hub}, env),
	}
}

// pulled checks that the registry has the image of the source under a tag, and returns its
// digest.
func (l *kanikoLab) pulled(t *testing.T, repo, tag string) string {
	t.Helper()
	c := exec.Command("/proc/self/exe")
	c.Args = []string{"cairn", "--root=" + t.TempDir(), "pull", "--quiet", l.registry + "/" + repo + ":" + tag}
	c.Env = append(os.Environ(), "DOCKER_CONFIG="+l.docker)
	out, err := c.CombinedOutput()
	digest := regexp.MustCompile(`@(sha256:[0-9a-f]{64})`).FindSubmatch(out)
	if err != nil || digest == nil {
		t.Fatalf("%s:%s: %v\n%s", repo, tag, err, out)
	}
	return string(digest[1])
}

// The profiles of the jobs: a pod as kaniko's, and one in which kaniko cannot run.
var kanikoProfiles = []podtest.Profile{podtest.Baseline, podtest.Restricted}

// TestKanikoJobs runs jobs that were written for kaniko, which differ from it in the name of
// the image only.
func TestKanikoJobs(t *testing.T) {
	t.Parallel()
	l := newKanikoLab(t)
	for _, profile := range kanikoProfiles {
		for name, job := range map[string]func(*testing.T, podtest.Profile){"gitlab": l.gitlab, "tekton": l.tekton, "jenkins": l.jenkins, "argo": l.argo} {
			t.Run(name+" "+string(profile), func(t *testing.T) { job(t, profile) })
		}
	}
}

// runPod runs a command in a pod, which must succeed.
func runPod(t *testing.T, p podtest.Pod, args ...string) string {
	t.Helper()
	var text bytes.Buffer
	status, err := p.Run(t.Context(), &text, &text, args...)
	if err != nil || status != 0 {
		t.Fatalf("status %d, %v\n%s", status, err, &text)
	}
	return text.String()
}

// gitlab runs the scripts of the jobs in the shell of the image, as GitLab's runner does.
func (l *kanikoLab) gitlab(t *testing.T, profile podtest.Profile) {
	var jobs map[string]struct {
		Image struct {
			Name       string
			Entrypoint []string
		}
		Before []string `yaml:"before_script"`
		Script []string
	}
	readYAML(t, "../../examples/kaniko/gitlab.yaml", &jobs)
	repo := "gitlab/" + string(profile)
	for name, job := range jobs {
		if !strings.HasSuffix(job.Image.Name, ":debug") || !slices.Equal(job.Image.Entrypoint, []string{""}) {
			t.Errorf("%s: image %v", name, job.Image)
		}
		p := l.pod(t, profile, "debug", "/builds/me/app", "CI_PROJECT_DIR=/builds/me/app", "CI_REGISTRY="+l.registry, "CI_REGISTRY_USER=me",
			"CI_REGISTRY_PASSWORD=open-sesame", "CI_REGISTRY_IMAGE="+l.registry+"/"+repo, "CI_COMMIT_TAG=v1")
		out := runPod(t, p, "sh", "-c", "set -e\n"+strings.Join(append(job.Before, job.Script...), "\n"))
		if !strings.Contains(out, "run-1") {
			t.Errorf("%s: the RUN did not run:\n%s", name, out)
		}
		if name == "build" {
			if digest := l.pulled(t, repo, "v1"); !strings.Contains(out, "pushed "+digest) {
				t.Errorf("%s: the digest is not %s:\n%s", name, digest, out)
			}
		}
	}
	l.pulled(t, repo, "short")
}

// tekton runs the step of the task, with its parameters, workspaces and result.
func (l *kanikoLab) tekton(t *testing.T, profile podtest.Profile) {
	var task struct {
		Spec struct {
			Params []struct {
				Name    string
				Default any
			}
			Workspaces []struct {
				Name      string
				MountPath string `yaml:"mountPath"`
			}
			Steps []struct {
				WorkingDir string `yaml:"workingDir"`
				Args       []string
			}
		}
	}
	readYAML(t, "../../examples/kaniko/tekton.yaml", &task)
	repo := "tekton/" + string(profile)
	const source, result = "/workspace/source", "/tekton/results/IMAGE_DIGEST"
	values := map[string]string{"workspaces.source.path": source, "results.IMAGE_DIGEST.path": result}
	for _, p := range task.Spec.Params {
		values["params."+p.Name] = fmt.Sprint(p.Default)
	}
	values["params.IMAGE"] = l.registry + "/" + repo + ":1"
	var args []string
	for _, arg := range task.Spec.Steps[0].Args {
		if arg == "$(params.EXTRA_ARGS[*])" {
			args = append(args, "--build-arg=V=2", "--skip-tls-verify", "--verbosity=debug")
			continue
		}
		for name, value := range values {
			arg = strings.ReplaceAll(arg, "$("+name+")", value)
		}
		args = append(args, arg)
	}
	p := l.pod(t, profile, "cairn", source)
	results := t.TempDir()
	if err := errors.Join(os.Chmod(results, 0o777), os.WriteFile(results+"/IMAGE_DIGEST", nil, 0o666), os.Chmod(results+"/IMAGE_DIGEST", 0o666)); err != nil {
		t.Fatal(err)
	}
	p.Volumes = append(p.Volumes, podtest.Volume{Host: results, Path: "/tekton/results"}, podtest.Volume{Host: readable(t, l.docker), Path: task.Spec.Workspaces[1].MountPath, ReadOnly: true})
	out := runPod(t, p, append(slices.Clone(l.config["cairn"].Entrypoint), args...)...)
	digest, err := os.ReadFile(results + "/IMAGE_DIGEST")
	if err != nil || string(digest) != l.pulled(t, repo, "1") || !strings.Contains(out, "run-2") {
		t.Errorf("the result is %q, %v\n%s", digest, err, out)
	}
}

// readable returns a copy of a directory that all users may read.
func readable(t *testing.T, dir string) string {
	t.Helper()
	to := t.TempDir()
	if err := errors.Join(os.CopyFS(to, os.DirFS(dir)), os.Chmod(to, 0o755), os.Chmod(to+"/config.json", 0o644)); err != nil {
		t.Fatal(err)
	}
	return to
}

// jenkins runs the script in a container that idles, several times: one after the other, and
// at once.
func (l *kanikoLab) jenkins(t *testing.T, profile podtest.Profile) {
	text, err := os.ReadFile("../../examples/kaniko/Jenkinsfile")
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(string(text), "'''")
	if len(parts) != 5 {
		t.Fatalf("the pipeline has %d parts, want a pod and a script", len(parts))
	}
	var pod struct {
		Spec struct {
			Containers []struct {
				Command      []string
				VolumeMounts []struct {
					MountPath string `yaml:"mountPath"`
				} `yaml:"volumeMounts"`
			}
		}
	}
	if err := yaml.Unmarshal([]byte(parts[1]), &pod); err != nil {
		t.Fatal(err)
	}
	script := parts[3]
	repo := "jenkins/" + string(profile)
	c := pod.Spec.Containers[0]
	p := l.pod(t, profile, "debug", "/home/jenkins/agent/workspace/app", "IMAGE="+l.registry+"/"+repo)
	p.Volumes = append(p.Volumes, podtest.Volume{Host: readable(t, l.docker), Path: c.VolumeMounts[0].MountPath, ReadOnly: true})
	running, err := p.Start(t.Context(), c.Command...)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := running.Stop(); err != nil {
			t.Error(err)
		}
	}()
	build := func(number string) {
		var log bytes.Buffer
		status, err := running.Exec(t.Context(), &log, &log, "/busybox/sh", "-c", "export BUILD_NUMBER="+number+script)
		if err != nil || status != 0 {
			t.Errorf("build %s: status %d, %v\n%s", number, status, err, &log)
		}
	}
	build("0\n")
	var g sync.WaitGroup
	for _, number := range []string{"1\n", "2\n"} {
		g.Go(func() { build(number) })
	}
	g.Wait()
	if t.Failed() {
		return
	}
	l.pulled(t, repo, "1")
	l.pulled(t, repo, "2")
}

// argo runs the arguments of the workflow. Builds with --reproducible have one digest.
func (l *kanikoLab) argo(t *testing.T, profile podtest.Profile) {
	var workflow struct {
		Spec struct {
			Templates []struct {
				Container struct{ Args []string }
			}
		}
	}
	readYAML(t, "../../examples/kaniko/argo.yaml", &workflow)
	repo := "argo/" + string(profile)
	var digests []string
	for range 2 {
		args := slices.Clone(l.config["cairn"].Entrypoint)
		for _, arg := range workflow.Spec.Templates[0].Container.Args {
			args = append(args, strings.ReplaceAll(arg, "registry.example/me/app", l.registry+"/"+repo))
		}
		p := l.pod(t, profile, "cairn", "/workspace")
		p.Volumes = append(p.Volumes, podtest.Volume{Host: readable(t, l.docker), Path: "/kaniko/.docker", ReadOnly: true})
		runPod(t, p, args...)
		digests = append(digests, l.pulled(t, repo, "1"))
	}
	if digests[0] != digests[1] {
		t.Errorf("two builds have the digests %v", digests)
	}
}

func readYAML(t *testing.T, name string, v any) {
	t.Helper()
	text, err := os.ReadFile(name)
	if err == nil {
		err = yaml.Unmarshal(text, v)
	}
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}
