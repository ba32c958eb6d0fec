# Completes words after ihfs by asking ihfs itself.
_ihfs_complete() {
    local line=${COMP_LINE:0:COMP_POINT} raw="" cut candidate
    local -a words=() found=()
    # COMP_WORDS is broken at @ and :, which stand in //owner@hospital/label; break at unquoted blanks alone.
    IFS=$' \t' read -a words <<<"$line"
    [[ $line =~ ((\\.|[^[:blank:]\\])*)$ ]] && raw=${BASH_REMATCH[1]}
    [[ -z $raw ]] && words+=("")
    IFS=$'\013' read -r -d '' -a found < <(
        _CLAP_IFS=$'\013' _CLAP_COMPLETE_INDEX=$((${#words[@]} - 1)) _CLAP_COMPLETE_COMP_TYPE=$COMP_TYPE \
            _CLAP_COMPLETE_SPACE=false IHFS_COMPLETE=bash ihfs -- "${words[@]}" 2>/dev/null
    )
    # Bash puts a candidate in place of what stands behind the last break: what stands before is taken off.
    cut=${raw%"$2"}
    [[ $raw == "$cut$2" ]] || cut=""
    COMPREPLY=()
    for candidate in "${found[@]}"; do
        printf -v candidate %q "$candidate"
        COMPREPLY+=("${candidate#"$cut"}")
    done
    # A folder or a label goes on: no blank behind it.
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} != */ ]]; then
        COMPREPLY[0]+=" "
    fi
    return 0
}
complete -o nospace -o bashdefault -F _ihfs_complete ihfs
