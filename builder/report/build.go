// Package report describes builds that have ended, and writes reports of them.
//
// A [Build] is plain data: the steps of a build with their times and the reasons for
// cache misses, its images with their layers, and its inputs. [HTML], [Markdown] and
// [JSON] write it. The JSON is the documented format of cairn build --report FILE.json;
// the store keeps the same for cairn builds.
//
// A Build has no values of build arguments, no environment and no credentials. [Clean]
// removes those that have got into names and messages.
package report

import (
	"time"

	"github.com/cairn-build/cairn/layer"
)

// Version is the version of the JSON of a [Build]. It grows when a field changes its
// meaning or goes; new fields do not change it.
const Version = 1

// Result is the end of a build.
type Result string

// The results.
const (
	Succeeded Result = "succeeded"
	Failed    Result = "failed"
	Canceled  Result = "canceled"
)

// Build is a build that has ended. Times are in seconds since its start, sizes in bytes.
type Build struct {
	Version  int       `json:"version"`
	ID       string    `json:"id"`
	Command  string    `json:"command"` // build, bake, compose build
	Cairn    string    `json:"cairn"`   // version of Cairn
	Result   Result    `json:"result"`
	Started  time.Time `json:"started"`
	Duration float64   `json:"duration"`
	Pulled   int64     `json:"pulled"` // bytes
	Pushed   int64     `json:"pushed"` // bytes

	Failure  *Failure  `json:"failure,omitempty"`
	Findings []Finding `json:"findings"`
	Targets  []Target  `json:"targets"`
	Steps    []Step    `json:"steps"`    // steps, transfers and exports, in the order of their start
	Critical []int     `json:"critical"` // IDs of the steps that the duration depends on, in order
	Inputs   []Input   `json:"inputs"`
	Warnings []Warning `json:"warnings"`

	planned [][]Image // of each target, without sizes
}

// Failure is the error of a build.
type Failure struct {
	Step    int      `json:"step,omitempty"` // ID; 0: none in particular
	Name    string   `json:"name,omitempty"` // of the step
	Message string   `json:"message"`
	Hint    string   `json:"hint,omitempty"`
	File    string   `json:"file,omitempty"`
	Lines   []Line   `json:"lines,omitempty"` // of the Dockerfile
	Log     []string `json:"log,omitempty"`   // the last lines of the step's output
}

// Line is a line of a Dockerfile.
type Line struct {
	Number int    `json:"number"`
	Text   string `json:"text"`
	Marked bool   `json:"marked,omitempty"` // the error is about it
}

// Finding is an observation about a build that its author can act on.
type Finding struct {
	Kind    string  `json:"kind"`
	Text    string  `json:"text"`
	Advice  string  `json:"advice,omitempty"`
	Step    int     `json:"step,omitempty"`    // ID
	Seconds float64 `json:"seconds,omitempty"` // that it cost
	Bytes   int64   `json:"bytes,omitempty"`   // that it cost
}

// Target is a target of a build.
type Target struct {
	Name       string       `json:"name,omitempty"`
	Dockerfile string       `json:"dockerfile"`
	Context    string       `json:"context"`
	Stage      string       `json:"stage,omitempty"`
	Folder     string       `json:"folder,omitempty"`   // name of the directory of the context
	Revision   string       `json:"revision,omitempty"` // git commit of the context
	Wanted     []string     `json:"wanted,omitempty"`   // tags that a build was to set
	Tags       []string     `json:"tags,omitempty"`     // that were set
	Pushed     []string     `json:"pushed,omitempty"`
	Digest     layer.Digest `json:"digest,omitempty"` // of the image or the index
	Args       []Arg        `json:"args,omitempty"`
	Images     []Image      `json:"images,omitempty"` // one for each platform
	Error      string       `json:"error,omitempty"`
	Ran        int          `json:"ran"`
	Cached     int          `json:"cached"`
}

// Arg is a build argument. Its value is written only on request.
type Arg struct {
	Name  string  `json:"name"`
	Value *string `json:"value,omitempty"`
}

// Text returns the argument as on the command line, or its name if it has no value.
func (a Arg) Text() string {
	if a.Value == nil {
		return a.Name
	}
	return a.Name + "=" + *a.Value
}

// Image is an image of one platform.
type Image struct {
	Platform string       `json:"platform,omitempty"`
	Digest   layer.Digest `json:"digest"`
	Config   layer.Digest `json:"config"`
	Size     int64        `json:"size"`               // compressed
	Unpacked int64        `json:"unpacked,omitempty"` // 0: not known, since layers of the base are not unpacked
	Layers   []Layer      `json:"layers"`             // bottom first
	Waste    Waste        `json:"waste"`
}

// Layer is a layer of an image.
type Layer struct {
	Digest   layer.Digest `json:"digest"`
	DiffID   layer.Digest `json:"diff_id"`
	Step     string       `json:"step,omitempty"` // name of the step that made it; "" of the base image
	Base     bool         `json:"base,omitempty"`
	Size     int64        `json:"size"` // compressed
	Listed   bool         `json:"listed"`
	Unpacked int64        `json:"unpacked,omitempty"` // of regular files; with Listed
	Entries  int          `json:"entries,omitempty"`
	Files    []Path       `json:"files,omitempty"`   // the biggest, at most 20
	Folders  []Path       `json:"folders,omitempty"` // the biggest, at most 10
}

// Path is a file or directory with its size.
type Path struct {
	Path string `json:"path"`
	Size int64  `json:"size"`
}

// Waste are the files of layers that a later layer replaces or removes.
type Waste struct {
	Bytes      int64        `json:"bytes"`
	Compressed int64        `json:"compressed"` // estimated by the ratio of each layer
	Count      int          `json:"count"`
	Paths      []WastedPath `json:"paths,omitempty"` // the biggest, at most 50
}

// WastedPath is a file that a later layer replaces or removes.
type WastedPath struct {
	Path    string `json:"path"`
	Size    int64  `json:"size"`
	Written int    `json:"written"` // index of the layer that has it
	Hidden  int    `json:"hidden"`  // index of the layer that replaces or removes it
	Removed bool   `json:"removed,omitempty"`
}

// State is the state of a step at the end of a build.
type State string

// The states.
const (
	StateRan      State = "ran"
	StateCached   State = "cached"
	StateFailed   State = "failed"
	StateCanceled State = "canceled"
)

// Step is a step of a Dockerfile, or another activity of a build.
type Step struct {
	ID      int      `json:"id"`   // the number in the progress display
	Kind    string   `json:"kind"` // step, internal, pull, push, export or other
	Name    string   `json:"name"`
	Targets []string `json:"targets,omitempty"`
	Stage   string   `json:"stage,omitempty"`
	File    string   `json:"file,omitempty"`
	Line    int      `json:"line,omitempty"` // of File
	State   State    `json:"state"`
	Start   float64  `json:"start"`
	End     float64  `json:"end"`
	Needs   []int    `json:"needs,omitempty"` // IDs
	Reason  *Reason  `json:"reason,omitempty"`
	Changed int      `json:"changed,omitempty"` // entries of its layer
	Moved   int64    `json:"moved,omitempty"`   // bytes that were transferred
	CPU     float64  `json:"cpu,omitempty"`     // seconds of processor time of the command
	Memory  int64    `json:"memory,omitempty"`  // bytes of its largest process at the peak; 0: not known, or little
	Parts   []Part   `json:"parts,omitempty"`
	Log     []string `json:"log,omitempty"`
	LogCut  bool     `json:"log_cut,omitempty"` // the log is the end of a longer one
	Error   string   `json:"error,omitempty"`
}

// CountSteps returns the numbers of steps of Dockerfiles that ran and that were cached.
func (b *Build) CountSteps() (ran, cached int) {
	for i := range b.Steps {
		switch s := &b.Steps[i]; {
		case s.Kind != "step":
		case s.State == StateCached:
			cached++
		default:
			ran++
		}
	}
	return ran, cached
}

// Duration returns the time from the start to the end of the step, in seconds.
func (s *Step) Duration() float64 { return s.End - s.Start }

// Part is an activity or waiting time of a step.
type Part struct {
	Wait  bool    `json:"wait,omitempty"`
	Name  string  `json:"name"`
	Start float64 `json:"start"`
	End   float64 `json:"end"`
}

// Duration returns the length of the part, in seconds.
func (p Part) Duration() float64 { return p.End - p.Start }

// Reason is why a step was not cached.
type Reason struct {
	Cause string   `json:"cause"` // as in the documentation
	Text  string   `json:"text,omitempty"`
	Below bool     `json:"below,omitempty"` // the change is that of a step below
	Files []string `json:"files,omitempty"` // that changed, the first ones
	More  int      `json:"more,omitempty"`  // further files that changed
}

// Input is something that a build was made from.
type Input struct {
	Kind   string `json:"kind"` // image, context, git, http, cache
	Name   string `json:"name"`
	Digest string `json:"digest,omitempty"`
	Size   int64  `json:"size,omitempty"`
	Files  int    `json:"files,omitempty"` // of a context: those that steps have read, with Size bytes
	Hits   int    `json:"hits,omitempty"`  // results that a cache had
}

// Warning is a warning of the linter or of the build.
type Warning struct {
	Rule   string `json:"rule,omitempty"`
	Text   string `json:"text"`
	File   string `json:"file,omitempty"`
	Line   int    `json:"line,omitempty"`
	Target string `json:"target,omitempty"`
}
