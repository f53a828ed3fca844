package bake

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

// DefaultFiles are the names of the files that are read if no flag names any. All that
// exist are read, in this order.
func DefaultFiles() []string {
	return []string{
		"compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml",
		"docker-bake.json", "docker-bake.hcl", "docker-bake.override.json", "docker-bake.override.hcl",
	}
}

// ErrNoDefinition is the error if no file of a definition exists or has content.
var ErrNoDefinition = errors.New("couldn't find a bake definition: write docker-bake.hcl, or name a file with --file")

// ReadFiles reads files of the working directory, or the default ones if names is empty.
// The name - stands for stdin. Empty files are left out.
func ReadFiles(names []string, stdin io.Reader) (files []File, err error) {
	optional, empty := len(names) == 0, []string(nil)
	if optional {
		names = DefaultFiles()
	}
	for _, name := range names {
		var data []byte
		if name == "-" {
			data, err = io.ReadAll(stdin)
		} else {
			data, err = os.ReadFile(name)
		}
		if optional && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read a bake definition: %w", err)
		}
		if len(data) == 0 {
			empty = append(empty, name)
			continue
		}
		files = append(files, File{Name: name, Data: data})
	}
	if len(files) == 0 && len(empty) > 0 {
		return nil, fmt.Errorf("%w: %s is empty", ErrNoDefinition, strings.Join(empty, ", "))
	}
	return files, nil
}

// Load evaluates files in several languages. A file belongs to the first language that
// accepts it. Languages are read in their order, whatever the order of the files.
func Load(files []File, languages []Language, o ReadOptions) (*Definition, error) {
	if len(files) == 0 {
		return nil, ErrNoDefinition
	}
	byLanguage, err := divide(files, languages, o)
	if err != nil {
		return nil, err
	}
	d := &Definition{}
	for i, l := range languages {
		if len(byLanguage[i]) == 0 {
			continue
		}
		if err := l.Read(d, byLanguage[i], o); err != nil {
			return nil, err
		}
	}
	if o.FileRelative {
		d.rebase()
	} else {
		for _, t := range d.Targets {
			t.Bases = Bases{}
		}
	}
	return d, nil
}

// divide returns the files of each language. The error has the problems of all files.
func divide(files []File, languages []Language, o ReadOptions) ([][]File, error) {
	byLanguage := make([][]File, len(languages))
	var problems Problems
	fail := func(err error, name string) {
		var list Problems
		if !errors.As(err, &list) {
			list = Problems{{Position: Position{File: name}, Text: strings.TrimPrefix(err.Error(), name+": ")}}
		}
		problems = append(problems, list...)
	}
next:
	for _, f := range files {
		var reason error
		for i, l := range languages {
			ok, err := l.Accepts(f, o)
			if ok {
				if err != nil {
					fail(err, f.Name)
				}
				byLanguage[i] = append(byLanguage[i], f)
				continue next
			}
			if err != nil {
				reason = err
			}
		}
		if reason == nil {
			reason = errors.New("unknown kind of file: want a Compose file, HCL or JSON")
		}
		fail(reason, f.Name)
	}
	if len(problems) > 0 {
		return nil, problems
	}
	return byLanguage, nil
}
