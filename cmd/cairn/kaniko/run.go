package kaniko

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/cairn-build/cairn/builder"
	"github.com/cairn-build/cairn/builder/dockerfile"
	"github.com/cairn-build/cairn/builder/images"
	"github.com/cairn-build/cairn/builder/input"
	"github.com/cairn-build/cairn/builder/worker"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/registry"
	"github.com/cairn-build/cairn/registry/reference"
)

// Executor carries out plans.
type Executor struct {
	*images.Manager
	Stdin io.Reader
	// Session starts a session with the store and the registries of the Manager.
	Session func(builder.SessionOptions) (*builder.Session, error)
}

// Run builds the image of a plan, pushes it and writes its files. After --dryrun the result
// has only warnings. It may have warnings in spite of an error.
func (e *Executor) Run(ctx context.Context, p *Plan) (built *builder.Built, err error) {
	for _, line := range p.Notices {
		e.Progress.Warn("%s", line)
	}
	if err := p.Files.Prepare(); err != nil {
		return nil, err
	}
	if p.CheckPush && p.Target.Push {
		if err := e.checkPush(ctx, p.Target.Tags); err != nil {
			return nil, err
		}
	}
	s, err := e.Session(p.Session)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	t := p.Target
	if err := e.setInput(ctx, s, &t, p.Context); err != nil {
		return nil, err
	}
	if p.DryRun {
		found, err := s.Lint(ctx, t)
		if err != nil {
			return nil, err
		}
		return &builder.Built{Warnings: found.Warnings}, found.Err
	}
	var bases []string
	if len(p.IgnorePaths) > 0 || hasLayouts(p.CacheDir) {
		if bases, err = baseImages(ctx, s, t); err != nil {
			return nil, err
		}
	}
	e.useWarm(ctx, &t, bases, p)
	all, err := s.Build(ctx, t)
	if missing := (*input.MissingError)(nil); errors.As(err, &missing) {
		missing.Flag = "--dockerfile"
		if p.Context.Kind != Directory && t.Dockerfile != p.Target.Dockerfile {
			missing.Where = p.Target.Dockerfile + " in the build context"
		}
	}
	if len(all) > 0 {
		built = all[0]
	}
	if built != nil && built.File != nil {
		e.warn(built.File)
	}
	if p.IgnoreImmutable && built != nil {
		err = e.withoutImmutable(ctx, err, t.Tags)
	}
	if err != nil {
		return built, err
	}
	if err := e.reportIgnored(ctx, built, bases, p); err != nil {
		return built, err
	}
	return built, p.Files.Write(ctx, built.Digest())
}

// ExitStatus returns the status of a failed run: that of the command if a RUN failed, and 1
// otherwise, as kaniko has it.
func ExitStatus(err error) int {
	var exit *worker.ExitError
	if errors.As(err, &exit) && exit.Code > 0 && exit.Code < 256 {
		return exit.Code
	}
	return 1
}

// checkPush starts an upload to each destination and cancels it. Only a refusal, and a host
// that does not exist, is an error: some registries answer in other ways before a repository
// exists.
func (e *Executor) checkPush(ctx context.Context, names []string) error {
	for _, name := range names {
		full, err := reference.Normalize(name)
		if err != nil {
			return err
		}
		push, err := e.Registry.NewPush(full)
		if err != nil {
			return err
		}
		if err := push.CheckRights(ctx); certain(err) {
			return fmt.Errorf("--destination %s: %w (--skip-push-permission-check leaves this check out)", name, err)
		}
	}
	return nil
}

// certain reports whether an error of the check means that the push will fail.
func certain(err error) bool {
	var dns *net.DNSError
	return errors.Is(err, registry.ErrUnauthorized) || errors.As(err, &dns) && dns.IsNotFound
}

// setInput sets the context and the Dockerfile of a target.
func (e *Executor) setInput(ctx context.Context, s *builder.Session, t *builder.Target, c Context) error {
	dir, err := e.fetch(ctx, s, c)
	if err != nil {
		return err
	}
	t.Context = dir
	if isURL(t.Dockerfile) {
		t.Inline, err = download(ctx, s, t.Dockerfile)
		t.Dockerfile = ""
		return err
	}
	t.Dockerfile = findDockerfile(dir, t.Dockerfile)
	return nil
}

// findDockerfile returns the path of a Dockerfile that is in the working directory or else
// in the context.
func findDockerfile(dir, name string) string {
	if fi, err := os.Stat(name); err == nil && !fi.IsDir() {
		return name
	}
	if inside := filepath.Join(dir, name); !filepath.IsAbs(name) || isFile(inside) {
		return inside
	}
	return name
}

func isFile(name string) bool {
	fi, err := os.Stat(name)
	return err == nil && fi.Mode().IsRegular()
}

// maxDockerfile is the largest size of a Dockerfile from a URL, in bytes.
const maxDockerfile = 16 << 20

func download(ctx context.Context, s *builder.Session, url string) (string, error) {
	body, err := s.Download(ctx, url)
	if err != nil {
		return "", fmt.Errorf("--dockerfile: %w", err)
	}
	defer body.Close()
	text, err := io.ReadAll(io.LimitReader(body, maxDockerfile+1))
	if err == nil && len(text) > maxDockerfile {
		err = errors.New("the file is too large")
	}
	if err == nil && strings.TrimSpace(string(text)) == "" {
		err = errors.New("the file is empty")
	}
	if err != nil {
		return "", fmt.Errorf("--dockerfile: %w", err)
	}
	return string(text), nil
}

// executorPath matches a path that a RUN of kaniko's finds in the executor's container.
var executorPath = regexp.MustCompile(`(?:^|[\s"'=<>:;&|(])(/(?:kaniko|busybox|var/run/secrets/kubernetes\.io)\b(?:/[\w.\-/]*)?)`)

// warn warns of each RUN that names a file of the executor's container, which it does not
// see here.
func (e *Executor) warn(f *dockerfile.File) {
	for _, stage := range f.Stages {
		for _, in := range stage.Instructions {
			run, ok := in.(*dockerfile.Run)
			if !ok {
				continue
			}
			text := run.Source
			for _, doc := range run.Files {
				text += "\n" + doc.Data
			}
			for _, found := range executorPath.FindAllStringSubmatch(text, -1) {
				if !mounted(run.Source, found[1]) {
					e.Progress.Warn("%s", seesOnlyStage(f.Name, run.Ranges[0].First, found[1]))
					break
				}
			}
		}
	}
}

// mounted reports whether a --mount in the text of a RUN has a path.
func mounted(source, path string) bool {
	for word := range strings.FieldsSeq(source) {
		text, ok := strings.CutPrefix(word, "--mount=")
		if !ok {
			continue
		}
		for part := range strings.SplitSeq(text, ",") {
			key, target, _ := strings.Cut(part, "=")
			target = strings.TrimRight(target, "/")
			if slices.Contains([]string{"target", "dst", "destination"}, key) && (path == target || strings.HasPrefix(path, target+"/")) {
				return true
			}
		}
	}
	return false
}

func seesOnlyStage(name string, line int, path string) string {
	if strings.Count(strings.TrimRight(path, "/"), "/") == 1 || strings.HasSuffix(path, "/") {
		return fmt.Sprintf("%s:%d: this RUN names %s: a RUN sees its stage, not the files of the executor's container; "+
			"pass each file that it needs with --secret and RUN --mount=type=secret (cairn help secrets)", name, line, path)
	}
	id := strings.TrimLeft(filepath.Base(path), ".")
	return fmt.Sprintf("%s:%d: this RUN names %s: a RUN sees its stage, not the files of the executor's container; "+
		"pass the file with --secret id=%[4]s,src=%[3]s and read it with RUN --mount=type=secret,id=%[4]s,target=%[3]s", name, line, path, id)
}

// withoutImmutable removes the errors of pushes that the registry refused since the tag is
// there and must not change.
func (e *Executor) withoutImmutable(ctx context.Context, err error, names []string) error {
	var several *builder.PushError
	if !errors.As(err, &several) {
		if err != nil && immutable(err) && len(names) == 1 && e.exists(ctx, names[0], err) {
			return nil
		}
		return err
	}
	left := slices.DeleteFunc(slices.Clone(several.Errs), func(err error) bool {
		return immutable(err) && slices.ContainsFunc(names, func(name string) bool { return mentions(err, name) && e.exists(ctx, name, err) })
	})
	return (&builder.PushError{Errs: left, Pushed: several.Pushed}).Err()
}

// immutable reports whether a registry says that a tag must not change, in the words of
// ECR, Harbor, Google's and Azure's registries, and Quay.
func immutable(err error) bool {
	text := strings.ToLower(err.Error())
	for _, words := range []string{"immutable", "imagetagalreadyexists", "cannot be overwritten", "tag already exists", "writes are disabled"} {
		if strings.Contains(text, words) {
			return true
		}
	}
	return false
}

func mentions(err error, name string) bool {
	full, bad := reference.Normalize(name)
	return bad == nil && (strings.Contains(err.Error(), full) || strings.Contains(err.Error(), name))
}

// exists reports whether a registry has the tag, and then logs that it stays.
func (e *Executor) exists(ctx context.Context, name string, cause error) bool {
	full, err := reference.Normalize(name)
	if err != nil {
		return false
	}
	push, err := e.Registry.NewPush(full)
	if err != nil {
		return false
	}
	d, err := push.CurrentDigest(ctx)
	if err != nil {
		return false
	}
	e.Progress.Warn("%v: the tag stays at %s, since --push-ignore-immutable-tag-errors is set", cause, d)
	return true
}

// reportIgnored warns of files of --ignore-path, and of /var/run, that are in the layers of
// the image and would not have been with kaniko.
func (e *Executor) reportIgnored(ctx context.Context, built *builder.Built, bases []string, p *Plan) error {
	if len(p.IgnorePaths) == 0 {
		return nil
	}
	below := map[layer.Digest]bool{}
	for _, full := range bases {
		if img, err := e.Resolve(ctx, full, firstPlatform(p)); err == nil {
			for _, l := range img.Layers {
				below[l.DiffID] = true
			}
		}
	}
	found := map[string]string{}
	for i, l := range e.Snapshots(ctx).StoredImage(built.Image, "").Layers() {
		if below[built.Image.Layers[i].DiffID] {
			continue
		}
		files, err := l.Listing(ctx)
		if err != nil {
			return fmt.Errorf("looking for --ignore-path in the layers: %w", err)
		}
		for _, entry := range files.Entries {
			for _, ignored := range p.IgnorePaths {
				root := strings.Trim(ignored, "/")
				if path := strings.Trim(entry.Path, "/"); found[ignored] == "" && (path == root || strings.HasPrefix(path, root+"/")) {
					found[ignored] = "/" + path
				}
			}
		}
	}
	for _, ignored := range p.IgnorePaths {
		if path := found[ignored]; path != "" {
			e.Progress.Warn("--ignore-path %s: the image contains %s: remove it in the RUN that writes it, or mount a cache or tmpfs there", ignored, path)
		}
	}
	return nil
}

func firstPlatform(p *Plan) layer.Platform {
	if len(p.Target.Platforms) > 0 {
		return p.Target.Platforms[0]
	}
	return layer.HostPlatform()
}

// Push pushes the image of an archive or an OCI layout to the destinations of a plan.
func (e *Executor) Push(ctx context.Context, path string, p *Plan) error {
	if p.CheckPush {
		if err := e.checkPush(ctx, p.Target.Tags); err != nil {
			return err
		}
	}
	all, err := e.Load(ctx, path, firstPlatform(p))
	if err != nil {
		return err
	}
	if len(all) != 1 {
		return fmt.Errorf("%s has %d images: want one", path, len(all))
	}
	for _, name := range p.Target.Tags {
		_, err := e.PushAs(ctx, string(all[0].Digest()), name)
		if p.IgnoreImmutable {
			err = e.withoutImmutable(ctx, err, []string{name})
		}
		if err != nil {
			return err
		}
	}
	return p.Files.Write(ctx, all[0].Digest())
}
