package debug

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/cairn-build/cairn/builder/plan/op"
	"github.com/cairn-build/cairn/builder/progress"
	"github.com/cairn-build/cairn/builder/sandbox"
	"github.com/cairn-build/cairn/builder/solve"
	"github.com/cairn-build/cairn/builder/source"
	"github.com/cairn-build/cairn/builder/terminal"
	"github.com/cairn-build/cairn/builder/worker"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/store"
)

// Keeper keeps the trees of failed RUNs in the store. It implements [worker.Debugger].
type Keeper struct {
	Store    *store.Store
	Progress *progress.Reporter

	mu  sync.Mutex
	ids []string
}

var _ worker.Debugger = (*Keeper)(nil)

// Kept describes the tree of a failed RUN.
type Kept struct {
	File    string        `json:"file"` // the Dockerfile
	Line    int           `json:"line"`
	Step    string        `json:"step"` // "[build 2/4] RUN make"
	Stage   string        `json:"stage,omitempty"`
	Folder  string        `json:"folder,omitempty"` // name of the directory of the context
	Outcome string        `json:"outcome"`
	Run     op.Run        `json:"run"`
	Caches  []op.CacheUse `json:"caches,omitempty"`
	// Inputs are the trees of mounts. The last layers of the image are theirs.
	Inputs []keptInput `json:"inputs,omitempty"`
}

// keptInput describes a worker.KeptInput.
type keptInput struct {
	Input int    `json:"input"`
	Path  string `json:"path,omitempty"`
	Count int    `json:"count"` // of layers
}

// label has the description in the config of the image.
const label = "cairn.failed"

// MayStart implements [worker.Debugger].
func (k *Keeper) MayStart(context.Context) error { return nil }

// HaltsBefore implements [worker.Debugger].
func (k *Keeper) HaltsBefore(*solve.Step) bool { return false }

// Before implements [worker.Debugger].
func (k *Keeper) Before(context.Context, *worker.Halt) error { return nil }

// Failed implements [worker.Debugger]. It keeps the tree, and lets the step fail.
func (k *Keeper) Failed(ctx context.Context, h *worker.Halt) (again bool) {
	id, err := k.keep(ctx, h)
	if err != nil {
		if ctx.Err() == nil {
			k.Progress.Warn("the failed step was not kept: %v", k.Store.ExplainFull(err))
		}
		return false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ids = append(k.ids, id)
	return false
}

// IDs returns the ids of the steps that were kept.
func (k *Keeper) IDs() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.ids
}

func (k *Keeper) keep(ctx context.Context, h *worker.Halt) (id string, err error) {
	about := Kept{
		File: h.Place.File, Line: h.Place.Line, Step: source.Redact(h.Place.Text), Stage: h.Place.Stage, Folder: h.Place.Folder,
		Outcome: outcome(h), Run: h.Run, Caches: h.Run.Extra.Caches,
	}
	layers, inputs, err := h.Keep(ctx)
	if err != nil {
		return "", err
	}
	for _, in := range inputs {
		about.Inputs = append(about.Inputs, keptInput{in.Input, in.Path, len(in.Layers)})
		layers = append(layers, in.Layers...)
	}
	text, err := json.Marshal(about)
	if err != nil {
		return "", err
	}
	p, err := layer.ParsePlatform(h.Run.Platform)
	if err != nil {
		return "", err
	}
	var diffIDs []layer.Digest
	for _, b := range layers {
		diffIDs = append(diffIDs, b.DiffID)
	}
	config, err := json.Marshal(map[string]any{
		"os": p.OS, "architecture": p.Architecture, "variant": p.Variant,
		"config": map[string]any{"Labels": map[string]string{label: string(text)}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": diffIDs},
	})
	if err != nil {
		return "", err
	}
	img, err := layer.NewImage(config, layers, nil, false)
	if err != nil {
		return "", err
	}
	b := make([]byte, 4)
	rand.Read(b) // never fails
	id = hex.EncodeToString(b)
	return id, k.Store.KeepFailed(id, img)
}

// Trees returns the layers of a kept tree as an image, and the inputs of the mounts.
func (k Kept) Trees(img layer.Image) (tree layer.Image, inputs []worker.KeptInput, err error) {
	rest := img.Layers
	for _, in := range slices.Backward(k.Inputs) {
		at := len(rest) - in.Count
		if in.Count < 0 || at < 0 {
			return tree, nil, errors.New("read the description of the failed step: it has more layers than there are")
		}
		inputs = append(inputs, worker.KeptInput{Input: in.Input, Path: in.Path, Layers: rest[at:]})
		rest = rest[:at]
	}
	img.Layers = rest
	return img, inputs, nil
}

// Describe returns the description of a kept tree.
func Describe(img layer.Image) (k Kept, err error) {
	var config struct {
		Config struct{ Labels map[string]string }
	}
	if err = json.Unmarshal(img.Config, &config); err == nil {
		err = json.Unmarshal([]byte(config.Config.Labels[label]), &k)
	}
	if err != nil {
		return k, fmt.Errorf("read the description of the failed step: %w", err)
	}
	k.Run.Extra.Caches = k.Caches
	return k, nil
}

// inputs returns the inputs of the mounts without their layers.
func (k Kept) inputs() (all []worker.KeptInput) {
	for _, in := range k.Inputs {
		all = append(all, worker.KeptInput{Input: in.Input, Path: in.Path})
	}
	return all
}

// Place returns the place of the step, as in "Dockerfile:12 (stage build, step 7/9)".
func (k Kept) Place() string {
	text := fmt.Sprintf("%s:%d", k.File, k.Line)
	if details := position(worker.Place{Stage: k.Stage, Text: k.Step}); details != "" {
		text += " (" + details + ")"
	}
	return clean(text)
}

// Command returns the instruction of the step.
func (k Kept) Command() string { return clean(instruction(k.Step)) }

// Find returns the kept tree whose id begins with a text.
func Find(s *store.Store, id string) (found store.Tagged, err error) {
	all, err := s.Failed()
	if err != nil {
		return found, err
	}
	for _, t := range all {
		switch {
		case t.Ref == id:
			return t, nil
		case !strings.HasPrefix(t.Ref, id):
		case found.Ref != "":
			return found, fmt.Errorf("several failed steps have ids that begin with %s: use a longer one", id)
		default:
			found = t
		}
	}
	if found.Ref == "" {
		return found, fmt.Errorf("there is no failed step %s (cairn debug lists them; each is kept for %d hours)", id, int(store.FailedAge.Hours()))
	}
	return found, nil
}

// Enter runs a command in the tree of a kept step, or a shell if there are no arguments, and
// returns its status. The terminal of the Shells is used if there is one.
func (s *Shells) Enter(ctx context.Context, h *worker.Halt, k Kept, args []string, stdin *os.File, stdout, stderr *os.File) (int, error) {
	if len(args) == 0 {
		return s.shell(ctx, h, s.welcome(h, k))
	}
	spec := h.Spec
	spec.Args, spec.Mounts = args, slices.Clone(spec.Mounts)
	equip(&spec, directory(h), h.Spec, false)
	spec.Stdin, spec.Stdout, spec.Stderr, spec.Interactive = stdin, stdout, stderr, true
	if terminal.Is(stdin) && terminal.Is(stdout) {
		o := terminal.Options{In: stdin, Out: stdout}
		t, err := terminal.Open(o)
		if err != nil {
			return 0, err
		}
		spec.Terminal = t.File()
		res, err := sandbox.Run(ctx, spec)
		return res.ExitCode, errors.Join(err, t.Close())
	}
	res, err := sandbox.Run(ctx, spec)
	return res.ExitCode, err
}

// welcome returns a text about a kept step.
func (s *Shells) welcome(h *worker.Halt, k Kept) string {
	var b strings.Builder
	b.WriteString(s.paint(bold, k.Place()+" "+clean(k.Outcome)) + "\n")
	fmt.Fprintf(&b, "    %s\n    %s\n", s.fit(k.Command()), clean(surroundings(h)))
	if len(h.Missing) > 0 {
		fmt.Fprintf(&b, "    not given: %s\n", clean(strings.Join(h.Missing, ", ")))
	}
	if left := worker.Left(k.Run, k.inputs()); len(left) > 0 {
		fmt.Fprintf(&b, "    not kept: %s\n", clean(strings.Join(left, ", ")))
	}
	fmt.Fprintf(&b, "    again: %s      leave: exit      changes are discarded\n", Helper)
	return b.String()
}
