package dockerfile

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzFlags puts flags behind each instruction that has any.
func FuzzFlags(f *testing.F) {
	for _, seed := range []string{
		"--from=a", "--chown=a:b --chmod=u+x", "--link", "--link=TRUE", "--", "--exclude=*.x --exclude=y", `--chown="a b"`, `--chown=a\ b`,
		"--mount=type=cache,target=/c,uid=1,mode=0755", "--mount=type=secret,id=a,env=B,required", `--mount="type=bind,\"source=a,b\",target=/t"`,
		"--mount=type=tmpfs,size=1g,target=/t --mount=type=ssh", "--network=none --security=insecure", "--device=a/b=c,required",
		"--interval=1s --retries=3 --start-interval=1ms", "--platform=$P", "--checksum=sha256:a --keep-git-dir=false --unpack", "--=", "---a", "--a=--b",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, flags string) {
		for _, form := range []string{"FROM FLAGS a", "RUN FLAGS a", "COPY FLAGS a b", "ADD FLAGS a b", "HEALTHCHECK FLAGS CMD a", "ONBUILD COPY FLAGS a b", "ENV FLAGS a=b"} {
			text := strings.ReplaceAll(form, "FLAGS", flags)
			if !strings.HasPrefix(form, "FROM") {
				text = "FROM scratch\n" + text
			}
			file, err := Parse("f", []byte(text))
			var e *Error
			if err != nil && !errors.As(err, &e) {
				t.Fatalf("%q: an error without a place: %v", text, err)
			}
			if err != nil {
				e.Excerpt()
				continue
			}
			for _, s := range file.Stages {
				for _, in := range s.Instructions {
					same := func(w string) (string, error) { return w, nil }
					_, _ = Expand(in, same, same) // it may fail
				}
			}
		}
	})
}

// FuzzExpand expands a text in every way.
func FuzzExpand(f *testing.F) {
	for _, seed := range []string{
		"$A${B}", "${A:-${B:+$C}}", "${A#*/}${A##?}${A%.*}${A%%\\*}", "${A/b/c}${A//\\//x}", "${A:?no}", "'$A' \"$A\" \\$A", "${", "${A", "${A:", "$", "${A/", "\\",
		"\"", "'", "${A-'}'}", "${A:-\"}\"}", "a\nb", "$$$", "${A//}", "${é}", "\xff${A}", "${A#[}",
	} {
		f.Add(seed, "x/y.z*")
	}
	f.Fuzz(func(t *testing.T, text, value string) {
		for _, escape := range []rune{'\\', '`'} {
			lex := (&File{Escape: escape}).Lexer()
			e := vars{"A": value, "B": "b"}
			for name, expand := range map[string]func(string, Vars) (Word, error){"word": lex.Word, "raw": lex.Raw} {
				w, err := expand(text, e)
				if err == nil && utf8.ValidString(value) && !utf8.ValidString(w.Text) {
					t.Fatalf("%s of %q is not UTF-8: %q", name, text, w.Text)
				}
				if err != nil && strings.ContainsAny(err.Error(), "\n\uFFFD") && !strings.ContainsAny(text+value, "\n\uFFFD") {
					t.Fatalf("%s of %q: unreadable error %q", name, text, err)
				}
			}
			if _, err := lex.Words(text, e); err != nil && err.Error() == "" {
				t.Fatal("an error without words")
			}
			lex.Show(text, true, e)
		}
	})
}
