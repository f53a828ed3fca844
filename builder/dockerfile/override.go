package dockerfile

import "strings"

// Override replaces the image of the first FROM by from, unless that is "", and sets
// variables at the start of each stage. Their values are literal. It must be called before
// the file is used.
func (f *File) Override(from string, env []Pair) {
	if from != "" {
		f.Stages[0].Base = from
	}
	if len(env) == 0 {
		return
	}
	source := "ENV"
	var pairs []Pair
	for _, kv := range env {
		value := quote(kv.Value)
		source += " " + kv.Key + "=" + value
		pairs = append(pairs, Pair{Key: kv.Key, Value: value})
	}
	for i := range f.Stages {
		s := &f.Stages[i]
		in := &Env{Meta: Meta{Keyword: "ENV", Source: source, Ranges: s.Ranges}, Pairs: pairs}
		s.Instructions = append([]Instruction{in}, s.Instructions...)
	}
}

// quote quotes a text for the shell lexer, whatever the escape character is.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'"'"'`) + "'" }
