package plan

import (
	"bytes"
	"encoding/json"

	"github.com/cairn-build/cairn/builder/dockerfile"
	"github.com/cairn-build/cairn/builder/solve"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
)

// MarshalJSON returns the plan with its steps numbered in an order in which they
// can run. Tests compare it.
func (p *Plan) MarshalJSON() ([]byte, error) {
	n := &numbering{id: map[*solve.Step]int{}, info: map[*solve.Step][]*StepInfo{}}
	for _, info := range p.Steps {
		n.info[info.Step] = append(n.info[info.Step], info)
	}
	for _, info := range p.Steps {
		n.add(info.Step)
	}
	out := planJSON{Config: p.Config, Warnings: p.Warnings, Epoch: p.Epoch}
	if p.Root != nil {
		id := n.add(p.Root)
		out.Root = &id
	}
	for _, s := range p.Stages {
		out.Stages = append(out.Stages, stageJSON{s.Index, s.Name, s.Base, s.Platform.String(), n.add(s.Root), s.Ranges})
	}
	out.Steps = n.steps
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(out)
	return b.Bytes(), err
}

type planJSON struct {
	Stages   []stageJSON               `json:"stages"`
	Steps    []stepJSON                `json:"steps"`
	Root     *int                      `json:"root,omitempty"`
	Epoch    *int64                    `json:"epoch,omitempty"`
	Config   dockerspec.DockerOCIImage `json:"config"`
	Warnings []Warning                 `json:"warnings,omitempty"`
}

type stageJSON struct {
	Index    int                `json:"index"`
	Name     string             `json:"name"`
	Base     string             `json:"base"`
	Platform string             `json:"platform"`
	Root     int                `json:"root"`
	Lines    []dockerfile.Range `json:"lines"`
}

type stepJSON struct {
	ID      int             `json:"id"`
	Names   []nameJSON      `json:"shown,omitempty"`
	Op      json.RawMessage `json:"do"`
	Extra   json.RawMessage `json:"extra,omitempty"`
	NoCache bool            `json:"no_cache,omitempty"`
	In      []inputJSON     `json:"in,omitempty"`
}

type nameJSON struct {
	Name    string             `json:"name"`
	Stage   string             `json:"stage,omitempty"`
	Lines   []dockerfile.Range `json:"lines"`
	History int                `json:"history"`
}

type inputJSON struct {
	Step int             `json:"step"`
	Sel  json.RawMessage `json:"select,omitempty"`
}

// numbering numbers steps, inputs before the steps that use them.
type numbering struct {
	id    map[*solve.Step]int
	info  map[*solve.Step][]*StepInfo
	steps []stepJSON
}

func (n *numbering) add(s *solve.Step) int {
	if id, ok := n.id[s]; ok {
		return id
	}
	out := stepJSON{Op: json.RawMessage(s.Op), NoCache: s.NoCache}
	if s.Extra != "" {
		out.Extra = json.RawMessage(s.Extra)
	}
	for _, in := range s.In {
		i := inputJSON{Step: n.add(in.Step)}
		if in.Sel != "" {
			i.Sel = json.RawMessage(in.Sel)
		}
		out.In = append(out.In, i)
	}
	for _, info := range n.info[s] {
		out.Names = append(out.Names, nameJSON{info.Name, info.Stage, info.Ranges, info.History})
	}
	out.ID = len(n.steps)
	n.id[s] = out.ID
	n.steps = append(n.steps, out)
	return out.ID
}
