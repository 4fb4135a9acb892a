/** What a name has in it that is of another part of a checkpoint than the text model: its towers, or a draft model. */
export const NON_TEXT_COMPONENT = /(^|\.)(mtp|draft|eagle|visual|vision\w*|audio\w*|talker|code2wav)\./
