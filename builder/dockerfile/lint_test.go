package dockerfile_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/cairn-build/cairn/builder/dockerfile"
)

// parsed parses a Dockerfile that must be valid.
func parsed(t *testing.T, text string) *dockerfile.File {
	t.Helper()
	f, err := dockerfile.Parse("Dockerfile", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// texts returns warnings as lines.
func texts(warnings []dockerfile.Warning) (all []string) {
	for _, w := range warnings {
		all = append(all, w.String())
	}
	return all
}

// The rules that parsing itself applies.
func TestParseWarnings(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, text string
		want       []string
	}{
		{"none", "FROM a AS b\nRUN true\n", nil},
		{"stage name in upper case", "FROM a AS Build\n", []string{"StageNameCasing: Stage name 'Build' should be lowercase (line 1)"}},
		{"AS in another case", "FROM a as b\n", []string{"FromAsCasing: 'as' and 'FROM' keywords' casing do not match (line 1)"}},
		{"reserved name", "FROM a AS scratch\n", []string{`ReservedStageName: Stage name should not use the same name as reserved stage "scratch" (line 1)`}},
		{"duplicate name", "FROM a AS b\nFROM c AS b\n", []string{`DuplicateStageName: Duplicate stage name "b", stage names should be unique (line 2)`}},
		{"mixed case of keywords", "FROM a\nRUN true\nrun false\n", []string{"ConsistentInstructionCasing: Command 'run' should match the case of the command majority (uppercase) (line 3)"}},
		{"lower case is the majority", "from a\nrun true\nRUN false\n", []string{"ConsistentInstructionCasing: Command 'RUN' should match the case of the command majority (lowercase) (line 3)"}},
		{"maintainer", "FROM a\nMAINTAINER me\n", []string{"MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label (line 2)"}},
		{"empty continuation", "FROM a\nRUN true && \\\n\n  false\n", []string{"NoEmptyContinuation: Empty continuation line (line 4)"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := texts(parsed(t, test.text).Lint().Warnings())
			if len(got) != len(test.want) {
				t.Fatalf("got %q, want %q", got, test.want)
			}
			for i := range got {
				if got[i] != test.want[i] {
					t.Errorf("got  %s\nwant %s", got[i], test.want[i])
				}
			}
		})
	}
}

// The rules that a planner applies, with the text that BuildKit gives them.
func TestRules(t *testing.T) {
	t.Parallel()
	f := parsed(t, "FROM a\nENV a b\nCMD x\n")
	env, cmd := f.Stages[0].Instructions[0].Info(), f.Stages[0].Instructions[1].Info()
	tests := []struct {
		warn func(*dockerfile.Lint)
		want string
	}{
		{func(l *dockerfile.Lint) { l.UndefinedVar(env, "HOMEE", []string{"HOME", "PATH"}) }, "UndefinedVar: Usage of undefined variable '$HOMEE' (did you mean $HOME?) (line 2)"},
		{func(l *dockerfile.Lint) { l.UndefinedVar(env, "x", nil) }, "UndefinedVar: Usage of undefined variable '$x' (line 2)"},
		{func(l *dockerfile.Lint) { l.UndefinedArgInFrom(env, "VERSON", []string{"VERSION"}) }, "UndefinedArgInFrom: FROM argument 'VERSON' is not declared (did you mean VERSION?) (line 2)"},
		{func(l *dockerfile.Lint) { l.InvalidDefaultArg(env, "a:$V") }, `InvalidDefaultArgInFrom: Default value for ARG a:$V results in empty or invalid base image name (line 2)`},
		{func(l *dockerfile.Lint) { l.RedundantPlatform(env, "$TARGETPLATFORM") }, "RedundantTargetPlatform: Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior (line 2)"},
		{func(l *dockerfile.Lint) { l.ConstPlatform(env, "linux/amd64") }, `FromPlatformFlagConstDisallowed: FROM --platform flag should not use constant value "linux/amd64" (line 2)`},
		{func(l *dockerfile.Lint) { l.BasePlatform(env, "a", "linux/arm64", "linux/amd64") }, `InvalidBaseImagePlatform: Base image a was pulled with platform "linux/amd64", expected "linux/arm64" for current build (line 2)`},
		{func(l *dockerfile.Lint) { l.RelativeWorkdir(env, "src") }, `WorkdirRelativePath: Relative workdir "src" can have unexpected results if the base image changes (line 2)`},
		{func(l *dockerfile.Lint) { l.LegacyPair(env) }, `LegacyKeyValueFormat: "ENV key=value" should be used instead of legacy "ENV key value" format (line 2)`},
		{func(l *dockerfile.Lint) { l.ShellForm(cmd) }, "JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals (line 3)"},
		{func(l *dockerfile.Lint) { l.Overridden(cmd, []dockerfile.Range{{First: 2, Last: 2}}) }, "MultipleInstructionsDisallowed: Multiple CMD instructions should not be used in the same stage because only the last one will be used (line 2)"},
		{func(l *dockerfile.Lint) { l.IgnoredCopy(cmd, "Copy", "secret") }, `CopyIgnoredFile: Attempting to Copy file "secret" that is excluded by .dockerignore (line 3)`},
		{func(l *dockerfile.Lint) { l.ExposeCase(env, "80/TCP") }, "ExposeProtoCasing: Defined protocol '80/TCP' in EXPOSE instruction should be lowercase (line 2)"},
		{func(l *dockerfile.Lint) { l.ExposeFormat(env, "127.0.0.1:80") }, "ExposeInvalidFormat: EXPOSE instruction should not define an IP address or host-port mapping, found '127.0.0.1:80' (line 2)"},
	}
	for _, test := range tests {
		l := f.Lint()
		before := len(l.Warnings())
		test.warn(l)
		got := texts(l.Warnings())[before:]
		if len(got) != 1 || got[0] != test.want {
			t.Errorf("got  %q\nwant %q", got, test.want)
		}
		if rule := l.Warnings()[before]; rule.Description == "" {
			t.Errorf("%s has no description", rule.Rule)
		}
	}
}

func TestSecretName(t *testing.T) {
	t.Parallel()
	f := parsed(t, "FROM a\nENV a=b\n")
	m := f.Stages[0].Instructions[0].Info()
	for name, want := range map[string]bool{
		"PASSWORD": true, "DB_PASSWORD": true, "password_hash": true, "API_TOKEN": true, "APIKEY": true, "AWS_SECRET_ACCESS_KEY": true, "auth": true,
		"PASSWORD_FILE": false, "PUBLIC_KEY": false, "TOKEN_VERSION": false, "PASSWORDS": false, "MONKEY": false, "AUTHOR": false, "PATH": false,
	} {
		l := f.Lint()
		l.SecretName(m, "ENV", name)
		if got := len(l.Warnings()) > 0; got != want {
			t.Errorf("a warning for %s: %v, want %v", name, got, want)
		}
	}
}

// Rules can be skipped in the file, above an instruction, or by option.
func TestCheckDirective(t *testing.T) {
	t.Parallel()
	warn := func(l *dockerfile.Lint, f *dockerfile.File) []string {
		env := f.Stages[0].Instructions[0].Info()
		l = l.For(env)
		l.RelativeWorkdir(env, "x")
		l.LegacyPair(env)
		return texts(l.Warnings())
	}
	rules := func(texts []string) (s string) {
		for _, text := range texts {
			rule, _, _ := strings.Cut(text, ":")
			s += rule + " "
		}
		return s
	}
	option := "skip=LegacyKeyValueFormat"
	for _, test := range []struct {
		name, text string
		option     *string
		want       string
	}{
		{"none", "FROM a\nENV a b\n", nil, "WorkdirRelativePath LegacyKeyValueFormat "},
		{"one", "# check=skip=WorkdirRelativePath\nFROM a\nENV a b\n", nil, "LegacyKeyValueFormat "},
		{"two", "# check=skip=WorkdirRelativePath,LegacyKeyValueFormat\nFROM a\nENV a b\n", nil, ""},
		{"all", "# check=skip=all\nFROM a as B\nENV a b\n", nil, ""},
		{"above an instruction", "FROM a\n# check=skip=LegacyKeyValueFormat\nENV a b\n", nil, "WorkdirRelativePath "},
		{"by option", "# check=skip=WorkdirRelativePath\nFROM a\nENV a b\n", &option, "WorkdirRelativePath "},
	} {
		f, err := dockerfile.ParseWith("Dockerfile", []byte(test.text), dockerfile.Options{Check: test.option})
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if got := rules(warn(f.Lint(), f)); got != test.want {
			t.Errorf("%s: got warnings %q, want %q", test.name, got, test.want)
		}
	}
}

func TestWarningsAsErrors(t *testing.T) {
	t.Parallel()
	f := parsed(t, "# check=error=true\nFROM a AS Build\nFROM b AS Other\n")
	err := f.Lint().Err()
	var lint *dockerfile.LintError
	if !errors.As(err, &lint) || len(lint.Warnings) != 2 || err.Error() != "lint violation found for rules: StageNameCasing" {
		t.Errorf("got %v, want a LintError with two warnings", err)
	}
	if err := parsed(t, "# check=error=true\nFROM a AS build\n").Lint().Err(); err != nil {
		t.Errorf("a clean file fails: %v", err)
	}
	if err := parsed(t, "FROM a AS Build\n").Lint().Err(); err != nil {
		t.Errorf("warnings that are no errors fail: %v", err)
	}
	if _, err := dockerfile.Parse("Dockerfile", []byte("FROM a\n# check=error=nonsense\nRUN true\n")); err != nil {
		t.Errorf("a check directive after FROM fails: %v", err)
	}
	if _, err := dockerfile.Parse("Dockerfile", []byte("# check=error=nonsense\nFROM a\n")); err == nil || !strings.HasPrefix(err.Error(), "Dockerfile:1: ") {
		t.Errorf("an invalid check directive: %v, want an error at line 1", err)
	}
}

// Warnings survive an error of parsing, so that both can be shown.
func TestWarningsBesideAnError(t *testing.T) {
	t.Parallel()
	_, err := dockerfile.Parse("Dockerfile", []byte("FROM a as b\nMAINTAINER me\nCOPY x\n"))
	var e *dockerfile.Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want a *dockerfile.Error", err)
	}
	if e.Ranges[0].First != 3 {
		t.Errorf("the error is at %v, want line 3", e.Ranges)
	}
	if errors.Unwrap(err) == nil || errors.Unwrap(err).Error() == err.Error() {
		t.Errorf("Unwrap of %q gives %v, want the error without its place", err, errors.Unwrap(err))
	}
}

func TestWarningExcerpt(t *testing.T) {
	t.Parallel()
	text := "FROM a\nRUN one\nRUN two\nMAINTAINER me\n"
	w := parsed(t, text).Lint().Warnings()[0]
	want := "Dockerfile:4\n" +
		"--------------------\n" +
		"   2 |     RUN one\n" +
		"   3 |     RUN two\n" +
		"   4 | >>> MAINTAINER me\n" +
		"   5 |     \n" +
		"--------------------\n"
	if got := w.Excerpt("Dockerfile", []byte(text)); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := (dockerfile.Warning{Rule: "X", Detail: "y"}).Excerpt("Dockerfile", []byte(text)); got != "" {
		t.Errorf("a warning without lines has the excerpt %q", got)
	}
	if got := (dockerfile.Warning{Rule: "X", Detail: " y\n"}).String(); got != "X: y" {
		t.Errorf("a warning without lines is %q", got)
	}
}

// Errors of the parser, reworded if BuildKit's are for programmers.
func TestParseErrorTexts(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ text, want string }{
		{"", "Dockerfile: the Dockerfile cannot be empty"},
		{"RUN true\n", "Dockerfile:1: no build stage in current context: only ARG can come before the first FROM"},
		{"FROM a\nRNU true\n", "Dockerfile:2: unknown instruction: RNU (did you mean RUN?)"},
		{"FROM a\nrnu true\n", "Dockerfile:2: unknown instruction: rnu (did you mean run?)"},
		{"FROM a\nQQQQQQQQ true\n", "Dockerfile:2: unknown instruction: QQQQQQQQ"},
		{"FROM a\nCOPY --form=b x y\n", "Dockerfile:2: unknown flag: --form (did you mean --from?)"},
		{"FROM a\nHEALTHCHECK --intervall=1s CMD x\n", "Dockerfile:2: unknown flag: --intervall (did you mean --interval?)"},
		{"FROM a\nRUN --network=nonne true\n", `Dockerfile:2: invalid network mode "nonne": want default, none, host`},
		{"FROM a\nRUN --security=none true\n", `Dockerfile:2: security "none" is not valid: want sandbox, insecure`},
		{"FROM a\nHEALTHCHECK --interval=soon CMD x\n", `Dockerfile:2: "soon" is not a duration, such as 30s`},
		{"FROM a\nHEALTHCHECK --retries=many CMD x\n", `Dockerfile:2: "many" is not a number`},
		{"# escape=x\nFROM a\n", "Dockerfile:1: invalid escape token 'x' does not match ` or \\"},
		{"FROM a\nRUN " + strings.Repeat("x", 70_000) + "\n", "Dockerfile:2: dockerfile line greater than max allowed size of 65535"},
	} {
		_, err := dockerfile.Parse("Dockerfile", []byte(test.text))
		if err == nil || err.Error() != test.want {
			t.Errorf("%.40q: got  %v\nwant %s", test.text, err, test.want)
		}
	}
}

func TestDidYouMean(t *testing.T) {
	t.Parallel()
	base := errors.New("no stage bild")
	if got := dockerfile.DidYouMean(base, "bild", []string{"build", "test"}); got.Error() != "no stage bild (did you mean build?)" || !errors.Is(got, base) {
		t.Errorf("got %v", got)
	}
	for _, word := range []string{"zzzzzz", "build"} {
		if got := dockerfile.DidYouMean(base, word, []string{"build", "test"}); got != base {
			t.Errorf("%s: got %v, want the error as it is", word, got)
		}
	}
}
