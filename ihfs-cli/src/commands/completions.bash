# Completes words after ihfs by asking ihfs itself.
_ihfs_complete() {
    local line=${COMP_LINE:0:COMP_POINT} words cword current cut IFS=$'\013'
    # COMP_WORDS is broken at @ and :, which stand in //owner@hospital/label; break at blanks alone.
    local -a words=()
    IFS=$' \t\n' read -r -a words <<<"$line"
    [[ $line == *[[:blank:]] ]] && words+=("")
    cword=$((${#words[@]} - 1))
    current=${words[cword]}
    COMPREPLY=($(
        _CLAP_IFS=$'\013' _CLAP_COMPLETE_INDEX=$cword _CLAP_COMPLETE_COMP_TYPE=$COMP_TYPE \
            _CLAP_COMPLETE_SPACE=false IHFS_COMPLETE=bash ihfs -- "${words[@]}" 2>/dev/null
    )) || { COMPREPLY=(); return 0; }
    # Bash puts the candidate in place of what stands behind the last break: take off what stands before.
    cut=${current%"$2"}
    [[ -n $cut && $current == "$cut$2" ]] && COMPREPLY=("${COMPREPLY[@]#"$cut"}")
    # A folder or a label goes on: no blank behind it.
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} != */ ]]; then
        COMPREPLY[0]+=" "
    fi
    return 0
}
complete -o nospace -o bashdefault -F _ihfs_complete ihfs
