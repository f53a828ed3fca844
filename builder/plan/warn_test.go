package plan

import (
	"testing"
)

func TestWarnings(t *testing.T) {
	t.Parallel()
	checkPlans(t, warningView, []planCase{
		{name: "undefined", text: "FROM scratch\nENV A=$FOO\n", want: "UndefinedVar: Usage of undefined variable '$FOO'\n"},
		{name: "undefined with a guess", text: "FROM scratch\nARG FOOBAR=1\nENV A=$FOOBRA\n", want: "UndefinedVar: Usage of undefined variable '$FOOBRA' (did you mean $FOOBAR?)\n"},
		{name: "declared without a value", text: "FROM scratch\nARG FOO\nENV A=$FOO\n", want: ""},
		{name: "declared below", text: "FROM scratch AS a\nARG FOO\nFROM a\nENV A=$FOO\n", want: ""},
		{name: "set by the base image", text: "FROM full\nENV B=$A\n", want: ""},
		{name: "RUN has its own variables", text: "FROM bare\nRUN echo $FOO\n", want: ""},
		{name: "scanner argument", text: "FROM scratch\nENV A=$BUILDKIT_SBOM_SCAN_STAGE\n", want: ""},
		{name: "secrets", text: "FROM scratch\nARG API_TOKEN\nENV MY_PASSWORD=x\n",
			want: "SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ARG \"API_TOKEN\")\n" +
				"SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ENV \"MY_PASSWORD\")\n"},
		{name: "two of a kind", text: "FROM scratch\nCMD [\"a\"]\nENTRYPOINT [\"a\"]\nHEALTHCHECK NONE\nCMD [\"b\"]\nENTRYPOINT [\"b\"]\nHEALTHCHECK NONE\n",
			want: "MultipleInstructionsDisallowed: Multiple CMD instructions should not be used in the same stage because only the last one will be used\n" +
				"MultipleInstructionsDisallowed: Multiple ENTRYPOINT instructions should not be used in the same stage because only the last one will be used\n" +
				"MultipleInstructionsDisallowed: Multiple HEALTHCHECK instructions should not be used in the same stage because only the last one will be used\n"},
		{name: "one in each stage", text: "FROM scratch AS a\nCMD [\"a\"]\nFROM a\nCMD [\"b\"]\n", want: ""},
		{name: "shell form", text: "FROM scratch\nCMD a\n", want: "JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals\n"},
		{name: "shell form with a SHELL", text: "FROM full\nCMD a\n", want: ""},
		{name: "relative directory", text: "FROM full\nWORKDIR a\nWORKDIR b\n", want: "WorkdirRelativePath: Relative workdir \"a\" can have unexpected results if the base image changes\n"},
		{name: "relative after absolute", text: "FROM full AS a\nWORKDIR /a\nFROM a\nWORKDIR b\n", want: ""},
		{name: "platform of the base image", text: "FROM amd\n", options: `{"Platform":"linux/arm64"}`,
			want: "InvalidBaseImagePlatform: Base image amd was pulled with platform \"linux/amd64\", expected \"linux/arm64\" for current build\n"},
		{name: "constant platform", text: "FROM --platform=linux/arm64 busybox\n", want: "FromPlatformFlagConstDisallowed: FROM --platform flag should not use constant value \"linux/arm64\"\n"},
		{name: "constant platform in the name", text: "FROM --platform=linux/arm64 busybox AS tools-arm64\n", want: ""},
		{name: "redundant platform", text: "FROM --platform=$TARGETPLATFORM busybox\n", want: "RedundantTargetPlatform: Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior\n"},
		{name: "build platform", text: "FROM --platform=$BUILDPLATFORM busybox\n", want: ""},
		{name: "undefined in FROM", text: "FROM busybox$FOO\n", want: "UndefinedArgInFrom: FROM argument 'FOO' is not declared\n"},
		{name: "default makes no name", text: "ARG T\nFROM busybox:$T\n", options: `{"Args":{"T":"latest"}}`,
			want: "InvalidDefaultArgInFrom: Default value for ARG busybox:$T results in empty or invalid base image name\n"},
		{name: "legacy pair", text: "FROM scratch\nENV a b\nLABEL c d\n",
			want: "LegacyKeyValueFormat: \"ENV key=value\" should be used instead of legacy \"ENV key value\" format\n" +
				"LegacyKeyValueFormat: \"LABEL key=value\" should be used instead of legacy \"LABEL key value\" format\n"},
		{name: "skipped above the instruction", text: "FROM scratch\n# check=skip=LegacyKeyValueFormat\nENV a b\nENV c d\n",
			want: "LegacyKeyValueFormat: \"ENV key=value\" should be used instead of legacy \"ENV key value\" format\n"},
		{name: "a stage that is not needed", text: "FROM scratch\nENV a b\nFROM scratch\n", want: ""},
		{name: "several unused arguments", text: "FROM scratch\n", options: `{"Args":{"Z":"","A":""}}`, want: "UnusedBuildArg: One or more build-args [A Z] were not consumed\n"},
		{name: "arguments that BuildKit reads", text: "FROM scratch\n", options: `{"Args":{"BUILDKIT_X":"1","no_proxy":"1","SOURCE_DATE_EPOCH":"1","TARGETOS":"linux"}}`, want: ""},
	})
}

func TestIgnoredCopies(t *testing.T) {
	t.Parallel()
	checkPlans(t, warningView, []planCase{
		{name: "of the context", text: "FROM scratch\nCOPY a ./b/ /\n", options: `{"Ignored":["b"]}`,
			want: "CopyIgnoredFile: Attempting to Copy file \"b\" that is excluded by .dockerignore\n"},
		{name: "ADD", text: "FROM scratch\nADD a /\n", options: `{"Ignored":["a"]}`,
			want: "CopyIgnoredFile: Attempting to Add file \"a\" that is excluded by .dockerignore\n"},
		{name: "of a stage", text: "FROM scratch AS s\nFROM scratch\nCOPY --from=s a /\n", options: `{"Ignored":["a"]}`, want: ""},
		{name: "URL", text: "FROM scratch\nADD https://e.com/a https://e.com/a.git /d/\n", options: `{"Ignored":["https:/e.com/a","https:/e.com/a.git"]}`, want: ""},
		{name: "after expansion", text: "FROM scratch\nARG A=a\nCOPY $A /\n", options: `{"Ignored":["a"]}`,
			want: "CopyIgnoredFile: Attempting to Copy file \"a\" that is excluded by .dockerignore\n"},
	})
}

// Warnings that count as errors name their rules once, in order.
func TestWarningsAsErrors(t *testing.T) {
	t.Parallel()
	checkPlans(t, rootView, []planCase{
		{name: "several", text: "# check=error=true\nFROM scratch\nENV c d\nCMD a\nENV a b\n", err: "Dockerfile: lint violation found for rules: JSONArgsRecommended, LegacyKeyValueFormat"},
		{name: "skipped", text: "# check=error=true;skip=JSONArgsRecommended\nFROM scratch\nCMD a\n", want: "scratch"},
		{name: "unused arguments do not count", text: "# check=error=true\nFROM scratch\n", options: `{"Args":{"A":"1"}}`, want: "scratch"},
	})
}

func TestOutline(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, text string
		options    options
		want       string
	}{
		{"none", "FROM scratch\n", options{}, ""},
		{"value of a build argument", "FROM scratch\nARG A=1\n", options{Args: map[string]string{"A": "2"}}, "A=2@2"},
		{"global with the stage's declaration", "ARG A=1\nFROM scratch\nARG A\n", options{}, "A=1@1"},
		{"the stage's own default", "ARG A=1\nFROM scratch\nARG A=2\n", options{}, "A=2@3"},
		{"used by a FROM", "ARG I=busybox\nARG N=1\nFROM $I\n", options{}, "I=busybox@1"},
		{"used by a default", "ARG A=1\nARG B=$A\nFROM scratch\nARG B\n", options{}, "A=1@1 B=1@2"},
		{"stage below", "FROM scratch AS a\nARG A=1\nFROM scratch AS b\nARG B=2\nFROM a\nARG C\n", options{}, "A=1@2 C=@6"},
		{"copied stage", "FROM scratch AS a\nARG A=1\nFROM scratch\nCOPY --from=a / /\n", options{}, "A=1@2"},
		{"platform of a FROM", "ARG P=linux/arm64\nFROM --platform=$P busybox\n", options{}, "P=linux/arm64@1"},
		{"target", "FROM scratch AS a\nARG A=1\nFROM a\nARG B=1\n", options{Target: "a"}, "A=1@2"},
	} {
		out, err := Describe(t.Context(), input(t, parse(t, test.text), test.options))
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if got := argsView(out); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
	for text, want := range map[string]string{
		"FROM missing\n":                  "Dockerfile:1: docker.io/library/missing:latest: file does not exist",
		"FROM scratch\nSTOPSIGNAL 0\n":    "Dockerfile:2: invalid signal: 0",
		"FROM scratch\nCOPY --from=4 / /": "Dockerfile:2: invalid stage index 4",
	} {
		if _, err := Describe(t.Context(), input(t, parse(t, text), options{})); err == nil || err.Error() != want {
			t.Errorf("%q: error %v, want %s", text, err, want)
		}
	}
}
