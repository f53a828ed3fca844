package plan

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cairn-build/cairn/builder/dockerfile"
	"github.com/cairn-build/cairn/layer"
)

// scope holds the build arguments and the variables of FROM lines.
type scope struct {
	file *dockerfile.File
	lint *dockerfile.Lint
	lex  *dockerfile.Lexer

	args       map[string]string  // --build-arg
	predefined env                // BUILDPLATFORM and the like
	globals    env                // variables of FROM lines
	declared   map[string]argInfo // the ARGs before the first FROM
}

func newScope(in Input, target layer.Platform) *scope {
	s := &scope{
		file: in.File, lint: in.File.Lint(), lex: in.File.Lexer(),
		args: maps.Clone(in.Args), declared: map[string]argInfo{},
	}
	if s.args == nil {
		s.args = map[string]string{}
	}
	s.predefined = predefinedArgs(in, target)
	return s
}

// readGlobals sets the variables of FROM lines: the predefined arguments and the
// ARGs before the first FROM.
func (s *scope) readGlobals() error {
	if g, _, err := s.globalArgs(s.predefined.clone(), nil); err == nil {
		s.lintDefaults(&g) // would it work without any --build-arg?
	}
	globals, declared, err := s.globalArgs(s.predefined.clone(), s.args)
	s.globals, s.declared = globals, declared
	return err
}

func (s *scope) globalArgs(e env, build map[string]string) (env, map[string]argInfo, error) {
	declared := map[string]argInfo{}
	for i := range s.file.Args {
		a := &s.file.Args[i]
		for _, kv := range a.Args {
			info := argInfo{doc: kv.Doc, ranges: a.Ranges}
			value, ok := build[kv.Key]
			if !ok && kv.Value != nil {
				w, err := s.lex.Word(*kv.Value, &e)
				if err != nil {
					return e, nil, s.file.At(err, a.Ranges...)
				}
				value, ok = w.Text, true
				info.uses = w.Set
				if slices.Contains(w.Set, kv.Key) {
					info.uses = append(info.uses, declared[kv.Key].uses...)
				}
			}
			if ok {
				e.set(kv.Key, value)
				info.value = value
			}
			declared[kv.Key] = info
		}
	}
	return e, declared, nil
}

// predefinedArgs returns the arguments that FROM lines can use without an ARG.
func predefinedArgs(in Input, t layer.Platform) env {
	b, target := in.BuildPlatform, in.Target
	if target == "" {
		target = in.File.Stages[len(in.File.Stages)-1].As
	}
	if target == "" {
		target = "default"
	}
	var e env
	for _, kv := range [...][2]string{
		{"BUILDPLATFORM", b.String()},
		{"BUILDOS", b.OS},
		{"BUILDOSVERSION", b.OSVersion},
		{"BUILDARCH", b.Architecture},
		{"BUILDVARIANT", b.Variant},
		{"TARGETPLATFORM", t.Full()},
		{"TARGETOS", t.OS},
		{"TARGETOSVERSION", t.OSVersion},
		{"TARGETARCH", t.Architecture},
		{"TARGETVARIANT", t.Variant},
		{"TARGETSTAGE", target},
	} {
		if v, ok := in.Args[kv[0]]; ok {
			kv[1] = v
		}
		e.set(kv[0], kv[1])
	}
	return e
}

// unused returns a warning about build arguments that no ARG declares.
func (s *scope) unused(stages []*stage) []Warning {
	used := map[string]bool{}
	for name := range s.declared {
		used[name] = true
	}
	for _, st := range stages {
		for _, c := range st.commands {
			if a, ok := c.Instruction.(*dockerfile.Arg); ok {
				for _, kv := range a.Args {
					used[kv.Key] = true
				}
			}
		}
	}
	var unused []string
	for _, k := range slices.Sorted(maps.Keys(s.args)) {
		_, predefined := s.predefined.Get(k)
		proxy := slices.Contains(proxyNames(), strings.ToUpper(k))
		if !used[k] && !predefined && !proxy && k != "SOURCE_DATE_EPOCH" && !strings.HasPrefix(k, "BUILDKIT_") {
			unused = append(unused, k)
		}
	}
	if unused == nil {
		return nil
	}
	return []Warning{{
		Rule: "UnusedBuildArg", Description: "A --build-arg should be declared by an ARG",
		Detail: fmt.Sprintf("One or more build-args %v were not consumed", unused),
	}}
}

// used returns the arguments that a stage uses, and those that their defaults
// use.
func (s *scope) used(st *stage) []OutlineArg {
	var list []OutlineArg
	seen := map[string]bool{}
	var visit func(names []string)
	visit = func(names []string) {
		for _, name := range names {
			if seen[name] {
				continue
			}
			seen[name] = true
			a, ok := st.outline.args[name]
			if !ok {
				a, ok = s.declared[name]
			}
			if ok {
				list = append(list, OutlineArg{name, a.value, a.doc, a.ranges})
				visit(a.uses)
			}
		}
	}
	visit(st.outline.used)
	return list
}
