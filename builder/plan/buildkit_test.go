package plan

import (
	"errors"
	"testing"

	"github.com/cairn-build/cairn/builder/dockerfile"
)

// The texts are BuildKit's, which it prints for these Dockerfiles. Editors show them.
func TestBuildKitTexts(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"FROM scratch\nCPOY f /\n":                                   "dockerfile parse error on line 2: unknown instruction: CPOY (did you mean COPY?)",
		"FROM scratch\n\n\nBADCMD f /\n":                             "dockerfile parse error on line 4: unknown instruction: BADCMD",
		"RUN x\nFROM scratch\n":                                      "no build stage in current context",
		"FROM scratch\nCOPY --badflag=x f /\n":                       "dockerfile parse error on line 2: unknown flag: --badflag",
		"FROM scratch\nCOPY --chwn=1 f /\n":                          "dockerfile parse error on line 2: unknown flag: --chwn (did you mean chown?)",
		"FROM scratch\nCOPY f\n":                                     "dockerfile parse error on line 2: COPY requires at least two arguments, but only one was provided. Destination could not be determined",
		"FROM scratch\nRUN --mount=type=zzz x\n":                     "unsupported mount type \"zzz\"",
		"FROM scratch\nRUN --mount=type=cache x\n":                   "invalid mount target \"/\"",
		"FROM scratch\nRUN --network=zzz x\n":                        "dockerfile parse error on line 2: invalid network mode \"zzz\"",
		"FROM scratch\nRUN --security=zzz x\n":                       "dockerfile parse error on line 2: security \"zzz\" is not valid",
		"FROM\n":                                                     "dockerfile parse error on line 1: FROM requires either one or three arguments",
		"FROM a b c\n":                                               "dockerfile parse error on line 1: FROM requires either one or three arguments",
		"FROM scratch AS 1a\n":                                       "dockerfile parse error on line 1: invalid name for build stage: \"1a\", name can't start with a number or contain symbols",
		"FROM $X\n":                                                  "base name ($X) should not be blank",
		"FROM scratch\nENV\n":                                        "dockerfile parse error on line 2: ENV requires at least one argument",
		"FROM scratch\nENV A\n":                                      "ENV must have two arguments",
		"FROM scratch\nENV A=${B\n":                                  "failed to process \"${B\": unsupported modifier (�) in substitution",
		"FROM scratch\nENV A=${B:1:2}\n":                             "failed to process \"${B:1:2}\": unsupported modifier (:1) in substitution",
		"FROM scratch\nENV A=${B:?missing}\n":                        "failed to process \"${B:?missing}\": B: missing",
		"FROM scratch\nLABEL\n":                                      "dockerfile parse error on line 2: LABEL requires at least one argument",
		"FROM scratch\nEXPOSE abc\n":                                 "invalid containerPort: abc",
		"FROM scratch\nEXPOSE 70000\n":                               "invalid containerPort: 70000",
		"FROM scratch\nHEALTHCHECK --interval=x CMD y\n":             "dockerfile parse error on line 2: time: invalid duration \"x\"",
		"FROM scratch\nHEALTHCHECK FOO\n":                            "dockerfile parse error on line 2: Unknown type \"FOO\" in HEALTHCHECK (try CMD)",
		"FROM scratch\nHEALTHCHECK --retries=-1 CMD y\n":             "dockerfile parse error on line 2: --retries cannot be negative (-1)",
		"FROM scratch\nSTOPSIGNAL ZZZ\n":                             "invalid signal: ZZZ",
		"FROM scratch\nONBUILD FROM x\n":                             "dockerfile parse error on line 2: FROM isn't allowed as an ONBUILD trigger",
		"FROM scratch\nONBUILD ONBUILD RUN x\n":                      "dockerfile parse error on line 2: Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed",
		"FROM scratch\nSHELL sh\n":                                   "dockerfile parse error on line 2: SHELL requires the arguments to be in JSON form",
		"FROM scratch\nCOPY --chmod=99 f /\n":                        "invalid chmod parameter: '99'. it should be octal string and between 0 and 07777",
		"FROM scratch\nCOPY --link --chown=a f /\n":                  "--chown=a: user and group names can't be resolved when used with --link, use numeric uid[:gid] instead",
		"FROM --platform=zz/zz/zz/zz scratch\n":                      "failed to parse platform zz/zz/zz/zz: \"zz/zz/zz/zz\": cannot parse platform specifier: invalid argument",
		"FROM --platform=$FOO scratch\n":                             "empty platform value from expression $FOO",
		"FROM scratch\nCOPY <<EOF /x\nabc\n":                         "unterminated heredoc",
		"# escape=x\nFROM scratch\n":                                 "invalid escape token 'x' does not match ` or \\",
		"# check=error=true\nFROM scratch as B\nRUN x\n":             "lint violation found for rules: FromAsCasing, StageNameCasing",
		"# check=skip=all;error=zz\nFROM scratch\n":                  "failed to parse check options: failed to parse check option \"error=zz\": strconv.ParseBool: parsing \"zz\": invalid syntax",
		"# check=foo=bar\nFROM scratch\n":                            "failed to parse check options: invalid check option \"foo\"",
		"FROM scratch\nUSER\n":                                       "dockerfile parse error on line 2: USER requires exactly one argument",
		"FROM scratch\nVOLUME\n":                                     "dockerfile parse error on line 2: VOLUME requires at least one argument",
		"FROM scratch\nVOLUME []\n":                                  "dockerfile parse error on line 2: VOLUME requires at least one argument",
		"FROM scratch\nWORKDIR\n":                                    "dockerfile parse error on line 2: WORKDIR requires exactly one argument",
		"FROM scratch\nMAINTAINER\n":                                 "dockerfile parse error on line 2: MAINTAINER requires exactly one argument",
		"FROM scratch\nARG\n":                                        "dockerfile parse error on line 2: ARG requires at least one argument",
		"FROM scratch\nARG 1=2=3 =x\n":                               "dockerfile parse error on line 2: ARG names can not be blank",
		"FROM scratch\nADD --keep-git-dir=zz x /\n":                  "dockerfile parse error on line 2: expecting boolean value for flag --keep-git-dir, not: zz",
		"FROM scratch\nENV =x\n":                                     "dockerfile parse error on line 2: ENV names can not be blank",
		"FROM scratch\nCMD --x y\n":                                  "dockerfile parse error on line 2: unknown flag: --x",
		"FROM scratch\nCOPY --from=1 x /\n":                          "invalid stage index 1",
		"FROM scratch\nCOPY http://x /\n":                            "source can't be a URL for COPY",
		"FROM scratch\nRUN --mount=foo x\n":                          "invalid field 'foo' must be a key=value pair",
		"FROM scratch\nRUN --mount=type=bind,from=zz$ x\n":           "failed to parse stage name \"zz$\": invalid reference format",
		"FROM scratch\nRUN --mount=type=secret,required=zz x\n":      "invalid value for required: zz",
		"FROM scratch\nRUN --mount=type=tmpfs,size=zz,target=/x x\n": "invalid value for size: zz",
		"ARG A\n":                   "dockerfile contains no stages to build",
		"FROM UPPER\n":              "failed to parse stage name \"UPPER\": invalid reference format: repository name (library/UPPER) must be lowercase",
		"FROM scratch\nEXPOSE ${\n": "failed to process \"${\": syntax error: missing '}'",
	} {
		file, err := dockerfile.Parse("Dockerfile", []byte(text))
		if err == nil {
			_, err = Check(t.Context(), Input{File: file})
		}
		var at *dockerfile.Error
		if !errors.As(err, &at) {
			t.Errorf("%q: error %v", text, err)
			continue
		}
		if got := at.BuildKit(); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
